"""Event names that were meant to be others: `Purchase` was sent, `purchase` is waited for.

Two names are near when they are equal but for case and separators. Where nothing at all came under the awaited name, those are
near as well that differ by a slip: a similarity of at least `ALIKE`, as difflib measures it.
"""

from collections.abc import Sequence
from datetime import datetime
from difflib import SequenceMatcher
from typing import NamedTuple

from upshot.diagnosis.facts import Received
from upshot.metrics import Metric

ALIKE = 0.8  # twice the letters in common, by all letters: one slip in five letters
COMPARED = 500  # of the received types, the commonest: comparing takes microseconds each
NEAREST = 5

_SEPARATORS = str.maketrans("", "", "_-. ")


class Awaited(NamedTuple):
    """An event type that metrics (keys) wait for, what came of it, and what was sent that may have been meant."""

    event_type: str
    metrics: tuple[str, ...]
    events: int
    last_at: datetime | None
    near_misses: tuple[Received, ...]


def awaited(metrics: Sequence[Metric], received: Sequence[Received]) -> list[Awaited]:
    """The event types that metrics name, in their order. A metric that counts every event waits for none by name."""
    waiting: dict[str, list[str]] = {}
    for metric in metrics:
        for name in dict.fromkeys(name for source in metric.sources for name in source.event_types):
            waiting.setdefault(name, []).append(metric.key)
    came = {found.event_type: found for found in received}
    others = [found for found in received if found.event_type not in waiting]
    return [
        Awaited(
            name,
            tuple(keys),
            came[name].events if name in came else 0,
            came[name].last_at if name in came else None,
            near_misses(name, others, slips=name not in came),
        )
        for name, keys in waiting.items()
    ]


def near_misses(name: str, others: Sequence[Received], *, slips: bool) -> tuple[Received, ...]:
    """Those of the other names that were probably meant to be this one, the likeliest first; `slips` of the pen, too."""
    plain = _plain(name)
    found = [(1.0, other) for other in others if _plain(other.event_type) == plain]
    if slips and not found:
        found = [(likeness, other) for other in others[:COMPARED] if (likeness := _likeness(plain, other)) >= ALIKE]
    ranked = sorted(found, key=lambda pair: (-pair[0], -pair[1].events, pair[1].event_type))
    return tuple(other for _, other in ranked[:NEAREST])


def _plain(name: str) -> str:
    """A name without case and separators; one that is made of these alone as it is."""
    return name.casefold().translate(_SEPARATORS) or name


def _likeness(plain: str, other: Received) -> float:
    matcher = SequenceMatcher(None, _plain(other.event_type), plain, autojunk=False)
    if matcher.real_quick_ratio() < ALIKE or matcher.quick_ratio() < ALIKE:
        return 0.0
    return matcher.ratio()
