"""Rows C1 to C16 of the calibration protocol: promises lie inside their bounds, and broken variants outside.

Everyday with at most 2000 experiments per row, and in the full suite as many as the protocol names.
"""

import pytest
from tests.core.statistics.protocol.rows import Protocol, Size
from tests.core.statistics.protocol.table import ROWS

everything = pytest.mark.parametrize("rows", ROWS, ids=lambda rows: rows.__name__)


def held(rows: Protocol, size: Size) -> None:
    """Every promise of a row is kept, and there is a broken variant, which is seen to break."""
    found = list(rows(size))
    assert [str(row) for row in found if not row.holds] == []
    assert any(row.control for row in found)


@everything
def test_promises_are_kept_and_broken_ones_seen(rows: Protocol) -> None:
    """With as many experiments as an everyday suite has time for."""
    held(rows, Size(2_000))


@pytest.mark.slow
@everything
def test_promises_are_kept_at_the_sizes_of_the_protocol(rows: Protocol) -> None:
    """With as many as the protocol names."""
    held(rows, Size())
