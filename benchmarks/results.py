"""How long does a result take over 1 million assigned users and 20 million events of 10 types?

`operations.results.report` on the embedded store, against a query written by hand on integer keys in the same DuckDB file: fold
to one row per user, only after that user's exposure, then to moments per variant. Goal ≤ 2 times its time (later 1.3) for one
metric. All ten types at once, a daily time series and the full report are shown against hand-written queries of the same metrics.
"""

import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import duckdb

from benchmarks import dataset, measure
from benchmarks.application import CLIENT, Application, opened
from benchmarks.dataset import TYPES
from benchmarks.measure import Measured, Sample
from benchmarks.report import Row, Table, at_most
from upshot.eventstore.embedded.identities import Identities
from upshot.operations import results
from upshot.operations.results import Asked

_PER_USER = """
    WITH exposed AS (SELECT user_key, variant, exposed_at FROM exposures WHERE client_key = 1 AND experiment = 1),
    per_user AS (
      SELECT {cells}, user_key, count(*) AS events{amount}
      FROM events JOIN exposed USING (user_key) WHERE type_key IN ({types}) AND occurred_at >= exposed_at GROUP BY ALL
    )
    SELECT {names}, count(*), sum(events){moments} FROM per_user GROUP BY ALL ORDER BY ALL"""
_DAY = "occurred_at // 86400000000 AS day"
_EXPOSED = "SELECT variant, count(*) FROM exposures WHERE client_key = 1 AND experiment = 1 GROUP BY 1"


def run(*, quick: bool) -> Table:
    """The table."""
    users, events = (100_000, 2_000_000) if quick else (1_000_000, 20_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset.create(folder, CLIENT)
        dataset.add_events(folder, 0, events, users)
        dataset.add_exposures(folder, events, users, experiment=1)
        index = Identities(folder / "events.identities")
        index.add(iter(()), events + users - 1)  # the index stays empty: nothing is appended here
        index.close()
        size = measure.megabytes(folder / "events.db")
        with opened(folder) as application:
            application.experiment(primary_metric=TYPES[0])
            return Table(
                "Results", _rows(application), [f"{users:,} users, {events:,} events; the file has {size:,.0f} MB."]
            )


def _rows(application: Application) -> list[Row]:
    first, all_types = TYPES[:1], range(1, len(TYPES) + 1)
    asked = {
        "one metric, conversion": (Asked(metrics=first), _by_hand([1]), 2.0),
        "one metric, sum": (Asked(metrics=_sums(first)), _by_hand([1], sums=True), 2.0),
        "ten conversions, one per type": (Asked(metrics=TYPES), _by_hand(all_types, "type_key"), None),
        "ten sums, one per type": (Asked(metrics=_sums(TYPES)), _by_hand(all_types, "type_key", sums=True), None),
        "one conversion, daily series": (Asked(metrics=first, granularity="day"), _by_hand([1], _DAY), None),
        "the same in full: series, two segments": (
            Asked(metrics=first, granularity="day", all_segments=True, sufficient=True), _by_hand([1], _DAY), None
        ),
    }  # fmt: skip
    rows = []
    for what, (question, query, goal) in asked.items():
        ask = partial(_report, application, question)
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - a question that cannot be answered is an answer, too
            rows.append(Row(what, f"{type(error).__name__}: {error}", "", "", "an answer", reached=False))
            continue
        found = measure.alternate({"ours": partial(measure.timed, ask), "hand": partial(_query, application, query)})
        ours, hand = found["ours"], found["hand"]
        rows.append(at_most(what, _shown(ours), _shown(hand), hand.speed_against(ours), goal))
    return rows


def _sums(types: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}:sum" for name in types)


def _by_hand(types: Iterable[int], *more: str, sums: bool = False) -> str:
    cells = ("variant", *more)
    return _PER_USER.format(
        cells=", ".join(cells),
        types=", ".join(map(str, types)),
        names=", ".join(cell.rpartition(" ")[2] for cell in cells),
        amount=", sum(value) AS amount" if sums else "",
        moments=", avg(amount), var_pop(amount)" if sums else "",
    )


def _report(application: Application, question: Asked) -> None:
    found = application.run(results.report(application.stores, CLIENT, "benchmark", question))
    assert found.summary.total_events


def _query(application: Application, query: str) -> Sample:
    # A second connection in this process shares the store's instance, and so its cache and threads.
    with duckdb.connect(
        application.folder / "events.db",
        config={"autoinstall_known_extensions": False, "preserve_insertion_order": False},
    ) as connection:
        return measure.timed(lambda: [connection.execute(each).fetchall() for each in (query, _EXPOSED)])


def _shown(found: Measured) -> str:
    return f"{found.seconds:.2f} s, {found.cpu_micros / 1e6:.2f} s CPU"
