"""The notebook recomputes every comparison from the exported rows; a wrong row or a wrong number makes it fail."""

import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from upshot import notebook

START = datetime(2026, 1, 5, tzinfo=UTC)
METRICS: list[Any] = [
    "visit",
    "order:count",
    {"key": "spend", "kind": "sum", "event_type": "order", "value": "price"},
    {"key": "spend, cut", "kind": "sum", "event_type": "order", "winsorize": {"upper": 95}},
    {"key": "order value", "kind": "mean", "event_type": "order", "value": "price"},
    {"key": "per visit", "kind": "ratio", "numerator": {"of": "sum", "event_type": "order"},
     "denominator": {"event_type": "visit"}},
    {"key": "back", "kind": "retention", "event_type": "visit", "delay": "1d", "window": "2d"},
    {"key": "funnel", "kind": "funnel", "steps": [{"event_type": "visit"}, {"event_type": "order"}]},
    {"key": "big", "kind": "threshold", "of": "sum", "event_type": "order", "at_least": 40},
]  # fmt: skip


@pytest.fixture
async def folder(api: httpx.AsyncClient, tmp_path: Path) -> Path:
    """A folder with the rows and the result of an experiment of two phases, whose users did much before it, too."""
    chance = random.Random(7)
    body = {
        "name": "N",
        "primary_metric": "spend",
        "metrics": METRICS,
        "variants": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
    }
    made = (await api.post("/experiments", json=body)).json()
    assignments: list[Any] = []
    events: list[Any] = []
    for number in range(600):
        habit, moment = chance.expovariate(0.2), START + timedelta(hours=chance.randrange(24 * 6))
        arm = number % 3
        assignments.append({"user_id": f"u{number}", "variant": "abc"[arm], "assigned_at": moment.isoformat()})
        for _ in range(int(habit * (1 + 0.1 * arm))):
            when = (moment + timedelta(hours=chance.uniform(-300, 100))).isoformat()
            events.append({"user_id": f"u{number}", "type": "visit", "timestamp": when})
            if chance.random() < 0.5:
                price = {"price": round(habit * chance.lognormvariate(1, 1), 2)}
                events.append({"user_id": f"u{number}", "type": "order", "timestamp": when, "properties": price})
    rows = {"assignments": assignments, "events": events}
    assert (await api.post(f"/experiments/{made['id']}/import", json=rows)).is_success
    end = (START + timedelta(days=9)).isoformat().replace("+", "%2B")
    results = f"/experiments/{made['id']}/results"
    found = await api.get(f"{results}?end_date={end}")
    export = await api.get(f"{results}/export?end_date={end}&format=csv")
    (tmp_path / "n.csv").write_bytes(export.content)
    (tmp_path / "n.json").write_bytes(found.content)
    return tmp_path


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Execute the cells one after the other, as a notebook does."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for cell in notebook.build("N", "n.csv", "n.json")["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], cell["id"], "exec"), names)  # noqa: S102 - our own
    return names


async def test_every_comparison_is_recomputed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares, means, ratios, caps, windows and funnels, adjusted for what came before where that helps."""
    names = run(folder, monkeypatch)

    assert (names["checked"], names["skipped"]) == (2 * len(METRICS), 0)
    adjusted = {c["metric"] for c in names["result"]["comparisons"] if c["adjusted"]}
    assert {"order:count", "spend"} <= adjusted
    assert "funnel" not in adjusted


@pytest.mark.parametrize("broken", ["a row", "a statistic", "a split"])
async def test_what_is_wrong_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """An altered row, number or split does not pass."""
    said = json.loads((folder / "n.json").read_bytes())
    if broken == "a row":
        lines = (folder / "n.csv").read_text().splitlines()
        (folder / "n.csv").write_text("\n".join(lines[:-5]))
    elif broken == "a statistic":
        said["comparisons"][-1]["statistic"] *= 1.001
    else:
        said["health"]["sample_ratio"]["p_value"] *= 0.9
    (folder / "n.json").write_text(json.dumps(said))

    with pytest.raises(AssertionError):
        run(folder, monkeypatch)


@pytest.mark.parametrize("name", ["![x](https://evil.example)", "<img src=x onerror=alert(1)>", "`code` *b* &amp; $m$"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    """A notebook shows Markdown: what somebody typed as a name is neither a picture, nor HTML, nor anything else."""
    built = notebook.build(name, "rows.csv", "result.json")

    title = built["cells"][0]["source"].splitlines()[0].removeprefix("# ")
    assert re.sub(r"\\(.)", r"\1", title) == name
    assert not set("![]()<>`*&$_") & set(re.sub(r"\\.", "", title))
    assert set("![]()<>`*&$_") & set(name)
