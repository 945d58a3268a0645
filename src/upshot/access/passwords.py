"""Passwords: argon2id, off the event loop, and so few at once that nobody can take the machine with sign-ins.

Parameters are those of OWASP's password storage sheet: 19 MiB, two passes, one lane. A verification takes tens of milliseconds of
one core; at most as many run as there are cores, 20 wait, and who comes then is told to come back.
"""

import asyncio
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from upshot.access.users import fault_of_length
from upshot.errors import Unavailable

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
WAITING = 20
GUESSABLE = 2
"""zxcvbn's score from which a password is taken: more than a million guesses."""

Answer = TypeVar("Answer")

_scoring = threading.Lock()  # zxcvbn keeps a caller's own words in a global


class Passwords:
    """Hashes and verifies; `memory_kib` is less in tests only."""

    def __init__(self, memory_kib: int = MEMORY_KIB) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=memory_kib, parallelism=LANES)
        self._threads = max(1, len(os.sched_getaffinity(0)))
        self._under_way = 0

    async def hash(self, password: str) -> str:
        """What is kept of a password, with its salt and parameters."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed. Where there is none, it takes as long to say no."""
        return await self._run(lambda: self._verify(kept, password))

    def outdated(self, kept: str) -> bool:
        """Whether it was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(kept)

    async def fault_of(self, password: str, *words: str) -> tuple[str, str] | None:
        """Whether a password is too short, too long, or easily guessed: one of the 30,000 commonest, or made of such, of the
        person's own `words` (address, name), of rows of keys, dates, repeated letters (zxcvbn)."""
        return fault_of_length(password) or await self._run(lambda: _fault_of_guessing(password, words))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "passwords")

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash("nobody's password")

    def _verify(self, kept: str | None, password: str) -> bool:
        try:
            self._hasher.verify(kept or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return kept is not None

    async def _run(self, work: Callable[[], Answer]) -> Answer:
        if self._under_way >= self._threads + WAITING:
            raise Unavailable("Too many sign-ins are under way.", retry_after=1)
        self._under_way += 1
        try:
            # Shielded: one that was cancelled goes on in its thread, and must be counted until it is done.
            running = asyncio.get_running_loop().run_in_executor(self._pool, work)
            running.add_done_callback(self._done)
        except BaseException:
            self._under_way -= 1
            raise
        return await asyncio.shield(running)

    def _done(self, _running: object) -> None:
        self._under_way -= 1


def _fault_of_guessing(password: str, words: tuple[str, ...]) -> tuple[str, str] | None:
    from zxcvbn import zxcvbn  # noqa: PLC0415 - its word lists take time and room that only a new password needs

    own = [part for word in words for part in (word, *re.split(r"\W+", word)) if part]
    with _scoring:
        score = zxcvbn(password[:72], [*own, "upshot"])["score"]
    if score < GUESSABLE:
        return "easily_guessed", "this password is easily guessed; a few unrelated words make a good one"
    return None
