"""All rows of the protocol, and the table that they make."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from tests.core.statistics.protocol import intervals, looks, questions
from tests.core.statistics.protocol.rows import Protocol, Row, Size

ROWS: tuple[Protocol, ...] = (
    looks.c1, looks.c2, looks.c3, looks.c4, looks.c5, looks.c6, intervals.c7, intervals.c8, questions.c9, questions.c10,
    questions.c11, questions.c12, intervals.c13, questions.c14, intervals.c15, questions.c16,
)  # fmt: skip
HEAD = "| row | what | experiments | count | rate | bounds | verdict |\n| --- | --- | ---: | ---: | ---: | ---: | --- |"
MANY = 100


def table(size: Size, only: tuple[str, ...] = ()) -> Iterator[str]:
    """The lines of the table, of all rows or of some, by name; a row of very many checks is summed up by method."""
    yield HEAD
    for rows in ROWS:
        if not only or rows.__name__ in only:
            found = list(rows(size))
            yield from _summary(found) if len(found) > MANY else map(str, found)


def _summary(rows: Iterable[Row]) -> Iterator[str]:
    """One line for each method and what is said of it: the range of rates, and how many lie outside."""

    def method(row: Row) -> tuple[bool, str, str, bool]:
        name = row.check.name
        return row.control, name.partition(",")[0], name.rpartition(": ")[2], "coarse" in name

    for (control, name, said, coarse), group in groupby(sorted(rows, key=method), key=method):
        found = list(group)
        check = found[0].check
        rates = sorted(row.check.rate for row in found)
        wrong = sum(not row.holds for row in found)
        verdict = (
            f"{wrong} of {len(found)} WRONG"
            if wrong
            else f"{len(found)} outside, as they must"
            if control
            else f"{len(found)} inside"
        )
        bounds = f"{(check.low or 0) / check.runs:.2%}–{(check.high or 0) / check.runs:.2%}"
        what = f"{name}{' (coarse)' if coarse else ''}: {said}"
        yield f"| {check.subject} | {what} | {check.runs:,} each | | {rates[0]:.2%}–{rates[-1]:.2%} | {bounds} | {verdict} |"
