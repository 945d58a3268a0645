"""Passwords are hashed off the event loop, few at a time, and a stranger's takes as long as a wrong one."""

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from upshot.access.passwords import WAITING, Passwords
from upshot.access.users import fault_of_length
from upshot.errors import Unavailable

GOOD = "four unrelated wordy things"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    """With the parameters of the product."""
    made = Passwords()
    yield made
    made.close()


async def test_what_is_kept_is_argon2id_with_the_parameters_we_name(passwords: Passwords) -> None:
    """19 MiB, two passes, one lane; a salt of its own each time."""
    one, another = await passwords.hash(GOOD), await passwords.hash(GOOD)

    parameters = extract_parameters(one)

    assert one.startswith("$argon2id$")
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)
    assert one != another
    assert GOOD not in one


async def test_only_the_very_password_matches(passwords: Passwords) -> None:
    """Not a part of it, not one in other letters; nothing is cut off, whatever its length."""
    long = "ü" * 500 + "\x00" + "x" * 400
    kept, kept_long = await passwords.hash(GOOD), await passwords.hash(long)

    assert await passwords.verify(kept, GOOD)
    assert await passwords.verify(kept_long, long)
    assert not await passwords.verify(kept, GOOD.upper())
    assert not await passwords.verify(kept, GOOD + " ")
    assert not await passwords.verify(kept_long, long[:-1])
    assert not await passwords.verify("no hash", GOOD)
    assert not await passwords.verify(None, "nobody's password")


async def test_a_hash_of_other_parameters_is_renewed(passwords: Passwords) -> None:
    """Whoever signs in next gets a new one."""
    weak = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(GOOD)

    assert await passwords.verify(weak, GOOD)
    assert passwords.outdated(weak)
    assert not passwords.outdated(await passwords.hash(GOOD))


@pytest.mark.slow
async def test_nobodys_password_takes_as_long_as_a_wrong_one(passwords: Passwords) -> None:
    """Else the time would tell who has an account. A check that asks for the account first would be many times faster."""
    kept = await passwords.hash(GOOD)
    took: dict[str | None, list[float]] = {kept: [], None: []}
    for _ in range(15):
        for known, times in took.items():
            began = time.perf_counter()
            await passwords.verify(known, "wrong")
            times.append(time.perf_counter() - began)

    with_account, without = (statistics.median(times) for times in took.values())
    assert 0.5 < without / with_account < 2


class Held(PasswordHasher):
    """Works until it is let go, or for so long, and counts how many work at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go, self.at_work, self.most = threading.Event(), 0, 0
        self._seconds, self._counting = seconds, threading.Lock()

    def verify(self, *_asked: Any) -> Any:
        """Say no, some time."""
        with self._counting:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        self.go.wait(self._seconds)
        with self._counting:
            self.at_work -= 1
        raise VerifyMismatchError


async def flooded(passwords: Passwords, kept: str, seconds: float = 60) -> tuple[int, int]:
    """How many of 200 sign-ins at once are told to come back while none of the others is done, and how many of those work."""
    hasher = passwords._hasher
    passwords._hasher = held = Held(seconds)
    flood = [asyncio.ensure_future(passwords.verify(kept, "wrong")) for _ in range(200)]
    while held.at_work < passwords._threads and not all(each.done() for each in flood):  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0.005)
    refused = sum(each.done() and each.exception() is not None for each in flood)
    held.go.set()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    passwords._hasher = hasher
    assert refused == sum(isinstance(answer, Unavailable) for answer in answers)
    return refused, held.most


async def test_a_flood_of_sign_ins_neither_blocks_the_loop_nor_grows(passwords: Passwords) -> None:
    """As many as there are cores run, 20 wait, the others are told to come back; meanwhile the loop answers."""
    kept = await passwords.hash(GOOD)

    assert await flooded(passwords, kept) == (200 - passwords._threads - WAITING, passwords._threads)
    assert await passwords.verify(kept, GOOD)


async def test_a_flood_that_blocks_the_loop_is_caught(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that looks at passwords on the loop: one after another, and nobody learns that there are too many."""

    async def at_once(_passwords: Passwords, work: Callable[[], Any]) -> Any:
        return work()

    monkeypatch.setattr(Passwords, "_run", at_once)

    assert await flooded(passwords, "", seconds=0) == (0, 1)


async def test_who_goes_away_is_counted_until_the_work_is_done(passwords: Passwords) -> None:
    """A cancelled request goes on in its thread; when it is done its place is free."""
    kept, hasher = await passwords.hash(GOOD), passwords._hasher
    passwords._hasher = held = Held(60)
    going = [asyncio.create_task(passwords.verify(kept, GOOD)) for _ in range(passwords._threads + WAITING)]
    await asyncio.sleep(0)
    for task in going:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)

    with pytest.raises(Unavailable):
        await passwords.verify(kept, GOOD)
    held.go.set()
    passwords._hasher = hasher
    while passwords._under_way:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0.01)
    assert await passwords.verify(kept, GOOD)


@pytest.mark.parametrize(
    "password",
    ["password", "12345678", "iloveyou", "qwertyuiop", "Password1!", "letmein123", "football", "aaaaaaaaaaaa", "abcdefgh",
     "ann@example.com", "example2026", "upshot123", "11111111", "sunshine", "p@ssw0rd"],
)  # fmt: skip
async def test_what_is_easily_guessed_is_refused(passwords: Passwords, password: str) -> None:
    """The commonest ones, rows of keys, repetitions, one's own address, our name."""
    fault = await passwords.fault_of(password, "ann@example.com", "Ann")

    assert fault is not None
    assert fault[0] == "easily_guessed"


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1_001])
async def test_too_short_and_too_long_ones_are_refused(passwords: Passwords, password: str) -> None:
    """Eight to a thousand characters."""
    fault = await passwords.fault_of(password)

    assert fault is not None
    assert fault[0] == "bad_length"


@pytest.mark.parametrize("password", [GOOD, "Zebra-lampe-41", "пароль из трёх слов", "x7Kq2mVw", GOOD * 30])
async def test_nothing_else_is_asked_of_a_password(passwords: Passwords, password: str) -> None:
    """No letters of certain kinds, no length below a thousand."""
    assert await passwords.fault_of(password, "ann@example.com") is None


async def test_common_passwords_are_known_by_the_thousands() -> None:
    """At least the 3,000 commonest that are long enough to be chosen."""
    from zxcvbn.matching import RANKED_DICTIONARIES

    assert sum(len(word) >= 8 for word in RANKED_DICTIONARIES["passwords"]) >= 3_000


@pytest.mark.slow
async def test_each_of_the_commonest_passwords_is_refused(passwords: Passwords) -> None:
    """The first 3,000 that are long enough, each by itself; a check of the length alone takes them all."""
    from zxcvbn.matching import RANKED_DICTIONARIES

    ranks = RANKED_DICTIONARIES["passwords"]
    common = sorted((word for word in ranks if len(word) >= 8), key=lambda word: ranks[word])[:3_000]

    assert [word for word in common if await passwords.fault_of(word) is None] == []
    assert [word for word in common if fault_of_length(word) is not None] == []
