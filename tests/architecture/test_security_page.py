"""The page of security: one line per requirement of the standard, each with a verdict, and what it names is there."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
TEXT = PAGE.read_text(encoding="utf-8")
VERDICTS = {"met": 183, "operator": 22, "n/a": 48}

_LINE = re.compile(r"^\| (\d+\.\d+\.\d+) \| (.+?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_PATH = re.compile(
    r"`((?:src|tests|docs|requirements|deploy)/[\w./-]+|[\w.]+\.(?:py|toml|yaml|md)|\.dockerignore|Dockerfile|Makefile)`"
)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")


def required() -> list[str]:
    """The ids of the standard's levels 1 and 2."""
    with (Path(__file__).parent / "asvs_requirements.csv").open(newline="", encoding="utf-8") as file:
        return [row["id"] for row in csv.DictReader(file) if row["level"] in {"1", "2"}]


def faults(page: str) -> Iterator[str]:
    """What is wrong with a page."""
    lines = _LINE.findall(page)
    written = Counter(line[0] for line in lines)
    yield from (f"{one}: {written[one]} lines" for one in required() if written[one] != 1)
    yield from (f"{one}: not of the standard" for one in written.keys() - set(required()))
    for one, _, verdict, where in lines:
        if verdict not in VERDICTS:
            yield f"{one}: {verdict} is no verdict"
        if verdict in {"met", "operator"} and not (_PATH.search(where) or _LINK.search(where)):
            yield f"{one}: names nothing"
        if not where.strip():
            yield f"{one}: says no reason"
    yield from (f"{path} is not there" for path in _PATH.findall(page) if not (ROOT / path).exists())
    yield from dead_links(page)


def dead_links(page: str) -> Iterator[str]:
    """Links to files or headings that are not there."""
    for file, anchor in _LINK.findall(page):
        target = PAGE.parent / file if file else PAGE
        if not target.exists():
            yield f"{file} is not there"
        elif anchor and anchor[1:] not in headings(page if not file else target.read_text(encoding="utf-8")):
            yield f"{file}{anchor} is no heading"


def headings(page: str) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_requirement_has_one_line_that_holds() -> None:
    """Of levels 1 and 2, with one of three verdicts; every path and link leads somewhere."""
    assert len(required()) == 253
    assert list(faults(TEXT)) == []


def test_the_page_counts_its_verdicts() -> None:
    """In its first paragraph, and truly; a verdict that changes is seen here."""
    counted = Counter(verdict for _, _, verdict, _ in _LINE.findall(TEXT))
    first = " ".join(TEXT.partition("\n## ")[0].split())

    assert counted == VERDICTS
    assert f"**{VERDICTS['met']} are met**, {VERDICTS['operator']} are met by whoever deploys" in first
    assert f"{VERDICTS['n/a']} do not apply, and none is [not met]" in first


def _without(pattern: str, instead: str = "") -> Callable[[str], str]:
    return lambda page: re.sub(pattern, instead, page, count=1, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_without(r"^\| 6\.2\.4 .*\n"), "6.2.4: 0 lines"),
        (_without(r"^(\| 6\.2\.4 .*\n)", r"\1\1"), "6.2.4: 2 lines"),
        (_without(r"^\| 6\.2\.4 ", "| 6.2.99 "), "6.2.99: not of the standard"),
        (_without(r"^(\| 6\.2\.4 .*?) met ", r"\1 mostly "), "6.2.4: mostly is no verdict"),
        (_without(r"^(\| 6\.2\.4 .* met \| ).*", r"\1sure |"), "6.2.4: names nothing"),
        (_without(r"^(\| 6\.2\.4 .*?) met .*", r"\1 n/a |  |"), "6.2.4: says no reason"),
        (_without(r"`tests/http/test_signin\.py`", "`tests/http/test_nothing.py`"), "tests/http/test_nothing.py is not there"),
        (_without(r"\]\(access\.md\)", "](nowhere.md)"), "nowhere.md is not there"),
        (_without(r"\]\(#guessing\)", "](#knowing)"), "#knowing is no heading"),
    ],
)  # fmt: skip
def test_a_page_that_does_not_hold_is_found(spoil: Callable[[str], str], found: str) -> None:
    """The check above can fail, for each of its reasons."""
    spoiled = spoil(TEXT)

    assert spoiled != TEXT
    assert found in list(faults(spoiled))


def test_a_hole_is_reported_in_private_and_to_nobody_by_name() -> None:
    """The root says how, and the page leads there."""
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

    assert "private vulnerability reporting" in policy
    assert "@" not in policy
    assert "](../SECURITY.md)" in TEXT
