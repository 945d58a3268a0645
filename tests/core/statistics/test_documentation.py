"""The page on statistics is true: its examples run, and give what they say."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"


def test_every_example_of_the_page_is_true() -> None:
    """There are many, and none fails."""
    found = doctest.testfile(str(PAGE), module_relative=False)

    assert found.attempted > 25
    assert found.failed == 0
