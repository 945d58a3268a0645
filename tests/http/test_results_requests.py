"""Results, exports and imports over HTTP, as the product's page writes them."""

import csv
import io
import json
import re
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

WINDOW = "start_date=2024-01-01&end_date=2024-01-31"
SECTIONS = {
    "plan",
    "segment_differences",
    "interactions",
    "cumulative",
    "experiment",
    "window",
    "summary",
    "health",
    "variants",
    "comparisons",
    "time_series",
    "segments",
    "sufficient_statistics",
    "confidence_level",
}
FORMULAE = ["=1+1", "+1", "-2", "@SUM(A1)", '=HYPERLINK("x")', "＝1+1"]
AT = "2026-01-31T12:00:00Z"


@pytest.fixture
async def experiment(api: httpx.AsyncClient) -> dict[str, Any]:
    """An experiment with six users, whose ids and contexts look like formulae, and an event of each."""
    body = {"name": "one", "primary_metric": "purchase", "variants": [{"name": "=a"}, {"name": "b"}]}
    made = (await api.post("/experiments", json=body)).json()
    for number, user_id in enumerate(FORMULAE):
        users = [{"user_id": user_id, "context": {"country": "=US", "n": number}}]
        assert (await api.post(f"/experiments/{made['id']}/assignments", json={"users": users})).is_success
        event = {"user_id": user_id, "type": "purchase", "properties": {"price": 10.5}}
        assert (await api.get(f"/experiments/{made['id']}/assignment/{user_id.replace('+', '%2B')}")).is_success
        assert (await api.post("/events", json=event)).is_success
    return dict(made)


async def test_a_result_is_given_as_written(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """Each query string of the product's page gives a result of the one documented shape, without NaN."""
    looked = f"event_type=purchase&variant_id={experiment['variants'][1]['id']}&primary_event_type=purchase"
    queries = (
        "", f"{WINDOW}&metrics=conversion_rate,revenue&group_by=day,variant&confidence_level=0.95",
        *(f"format={form}&include_time_series=true&event_types=purchase,signup" for form in ("summary", "full")),
        *(f"{looked}&granularity={period}" for period in ("hour", "day", "week")),
    )  # fmt: skip

    for query in queries:
        response = await api.get(f"/experiments/{experiment['id']}/results?{query}")

        assert response.status_code == 200, (query, response.text)
        assert response.json().keys() == SECTIONS
        assert not re.search(r"[:\[,](NaN|-?Infinity)", response.text)


async def test_metrics_only_gives_the_numbers_for_a_program(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """The variants, comparisons and series of the whole result, and nothing to read."""
    path = f"/experiments/{experiment['id']}/results"

    numbers, whole = await api.get(f"{path}?format=metrics_only"), await api.get(path)

    assert numbers.json().keys() == {"variants", "comparisons", "time_series"}
    assert numbers.json()["variants"] == whole.json()["variants"]
    assert sum(variant["assigned_users"] for variant in whole.json()["variants"]) == len(FORMULAE)


async def test_a_bad_question_is_refused(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """422 that names the parameter."""
    questions = (
        ("start_date=2024-02-30", "start_date"), ("start_date=yesterday", "start_date"), ("end_date=0001-01-01", "end_date"),
        ("end_date=9999-12-31", "end_date"), ("start_date=2024-02-01&end_date=2024-01-01", "start_date"),
        ("start_date=2020-01-01&end_date=2024-01-01", "start_date"), ("start_date=0001-01-01T00:00:00%2B23:59", "start_date"),
        ("end_date=9999-12-31T23:59:59-23:59", "end_date"), ("timezone=Mars/Base", "timezone"), ("timezone=", "timezone"),
        ("timezone=../../etc/passwd", "timezone"), ("confidence_level=nan", "confidence_level"), ("format=xml", "format"),
        ("confidence_level=1", "confidence_level"), ("granularity=second", "granularity"), ("variant_id=none", "variant_id"),
        ("confidence_level=0.5", "confidence_level"),
        ("metrics=%01", "metrics"), ("include_time_series=perhaps", "include_time_series"),
    )  # fmt: skip

    for query, pointer in questions:
        response = await api.get(f"/experiments/{experiment['id']}/results?{query}")

        assert response.status_code == 422, (query, response.text)
        assert pointer in response.json()["errors"][0]["pointer"], query


async def test_an_export_as_csv_holds_no_formula(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """RFC 4180, one row per user; texts that a spreadsheet would calculate have a quote before them."""
    response = await api.get(f"/experiments/{experiment['id']}/results/export?format=csv")

    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="results.csv"'
    assert {row["user_id"].removeprefix("'") for row in rows} == set(FORMULAE)
    assert {row["variant"] for row in rows} <= {"'=a", "b"}
    assert {float(row["purchase"]) for row in rows} == {1}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


async def test_an_export_as_lines_holds_the_same_rows(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """NDJSON: one object a line, the context as an object, values as they are."""
    response = await api.get(f"/experiments/{experiment['id']}/results/export?format=ndjson")

    rows = [json.loads(line) for line in response.text.splitlines()]
    assert {row["user_id"] for row in rows} == set(FORMULAE)
    assert all(row["context"]["country"] == "=US" and row["revenue"] == 10.5 for row in rows)


async def test_an_export_as_parquet_can_be_read(api: httpx.AsyncClient, experiment: dict[str, Any]) -> None:
    """One Parquet file with typed columns."""
    response = await api.get(f"/experiments/{experiment['id']}/results/export?format=parquet")

    table = pq.read_table(io.BytesIO(response.content))
    assert set(table.column("user_id").to_pylist()) == set(FORMULAE)
    assert table.column("revenue").to_pylist() == [10.5] * len(FORMULAE)
    assert "timestamp" in str(table.schema.field("exposed_at").type)


@pytest.mark.parametrize("ndjson", [False, True], ids=["a document", "lines"])
async def test_an_import_counts_with_its_own_times(
    api: httpx.AsyncClient, experiment: dict[str, Any], *, ndjson: bool
) -> None:
    """Assignments and events made elsewhere are in the result, the start moves back, and a repetition adds nothing."""
    rows = [
        {"user_id": f"u{number}", "variant": "b", "assigned_at": AT, "context": {"country": "US"}}
        for number in range(4)
    ]
    happened = [
        {"user_id": f"u{number}", "event_type": "purchase", "timestamp": AT, "properties": {"price": 3}}
        for number in range(3)
    ]
    content = (
        "\n".join(map(json.dumps, [*rows, *happened]))
        if ndjson
        else json.dumps({"assignments": rows, "events": happened})
    )
    headers = {"Content-Type": "application/x-ndjson" if ndjson else "application/json", "Idempotency-Key": "import-1"}
    path = f"/experiments/{experiment['id']}"

    first = await api.post(f"{path}/import", content=content, headers=headers)
    second = await api.post(f"{path}/import", content=content, headers=headers)

    found = (await api.get(f"{path}/results")).json()
    assert [first.json()[kind]["accepted"] for kind in ("assignments", "events")] == [4, 3]
    assert [second.json()[kind]["duplicates"] for kind in ("assignments", "events")] == [4, 3]
    assert found["experiment"]["started_at"] == AT
    assert found["summary"]["total_users"] == len(FORMULAE) + 4
    assert sum(variant["event_counts"].get("purchase", 0) for variant in found["variants"]) == len(FORMULAE) + 3
