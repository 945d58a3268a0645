"""What is particular to ClickHouse: several inserts without a transaction, several processes, a server that comes and goes."""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn
from tests import reference
from tests.backends import free_port
from tests.backends.clickhouse import ClickHouse, clickhouse
from tests.backends.daemon import server_folder
from tests.contract.test_eventstore import ANY, BOUGHT, END, HOUR, PLANS, SPENT, START, World, same
from tests.faults.lateness import losing

from upshot import eventstore
from upshot.aggregation import AggregationPlan, Period
from upshot.errors import ConfigurationError, TimedOut, Unavailable, UpshotError
from upshot.events import OVERRIDE, Event, Exposure, Withdrawal
from upshot.eventstore import Verdict, rollups
from upshot.eventstore.clickhouse import dialect, schema, upkeep
from upshot.eventstore.clickhouse import store as store_module
from upshot.eventstore.clickhouse.blocks import Block
from upshot.eventstore.clickhouse.dictionary import client_key, type_key
from upshot.eventstore.clickhouse.store import ClickHouseStore
from upshot.eventstore.clickhouse.upkeep import Upkeep

SNAPSHOT = Path(__file__).parent / "snapshots" / "clickhouse_cluster.sql"
PLAN = AggregationPlan(1, (BOUGHT, SPENT), None, END)
SEEN = Exposure("one", 1, "u", 0, 1, START, "{}")
HOURS = AggregationPlan(
    1, (BOUGHT,), None, END, tuple(Period(n * HOUR, (n + 1) * HOUR) for n in range(START // HOUR, START // HOUR + 4))
)
BUY = Event("id", "u", "buy", START, START, 1.0, "{}", None, 0, 7)
STATEMENTS = 10  # of a refresh of an hour and a day: marks, owners, version, experiments, links, two counted and written, removal
_numbers = itertools.count()

Open = Callable[[str], Any]


@pytest.fixture
def url(clickhouse_server: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh database of the server that tests share, which may be busy with another one's statements."""
    monkeypatch.setattr(store_module, "APPEND_SECONDS", 60)
    return clickhouse_server.database(f"particular_{os.getpid()}_{next(_numbers)}")


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """A function that opens a store, as another process would; all are closed at the end."""
    stores: list[ClickHouseStore] = []

    async def open_one(url: str) -> ClickHouseStore:
        store: Any = await eventstore.connect(url)
        stores.append(store)
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
def private() -> Iterator[ClickHouse]:
    """A server that this test may kill."""
    with server_folder() as folder, clickhouse(folder) as server:
        yield server


def failing(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, table: schema.ClickHouseTable) -> None:
    """Have the store crash before it inserts into a table."""
    insert = store._connection.insert

    async def crash(block: Block) -> None:
        if block.table is table:
            raise RuntimeError("crash")
        await insert(block)

    monkeypatch.setattr(store._connection, "insert", crash)


async def stored(store: ClickHouseStore, table: str = "events") -> int:
    """How many rows there are, repetitions included."""
    [[rows]] = await store._connection.query(f"SELECT count() FROM {table}", {"final": 0})  # noqa: S608
    return int(rows)


async def total(store: ClickHouseStore) -> tuple[int, float]:
    """Events and value that count."""
    found = await store.aggregate("one", PLAN)
    spent = [value for (_, key), value in found.measured.items() if key == SPENT.key]
    return sum(value.events for value in spent), sum(value.total for value in spent)


def understood(server: ClickHouse, statement: str) -> str:
    """A statement as the engine reads it."""
    quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
    return server.ask(f"SELECT formatQuery('{quoted}')")


def test_the_tables_of_a_cluster_are_as_written_down(clickhouse_server: ClickHouse) -> None:
    """The statements equal the snapshot, and the engine can read each of them."""
    statements = schema.ddl("upshot", "shards")

    assert ";\n\n".join(statements) + ";\n" == SNAPSHOT.read_text(encoding="utf-8")
    for statement in statements:
        formatted = understood(clickhouse_server, statement)
        assert "ON CLUSTER" in formatted or formatted.startswith("INSERT INTO upshot.marks")


async def test_two_processes_that_append_the_same_events_at_once_count_them_once(url: str, opened: Open) -> None:
    """Both have looked, and found nothing, before either inserts."""
    world, stores, both = World(7, events=400), [await opened(url), await opened(url)], asyncio.Barrier(2)
    for store in stores:
        store._fingerprints = _together(store._fingerprints, both)

    await asyncio.gather(*(store.expose(world.exposures) for store in stores))
    for client in ("one", "two"):
        events = [event for owner, event in world.events if owner == client]
        verdicts = await asyncio.gather(*(store.append(client, events[cut:]) for cut, store in enumerate(stores)))
        assert all(verdict is Verdict.ACCEPTED for each in verdicts for verdict in each)

    assert await stored(stores[0]) == 2 * len(world.events) - 2
    for plan in PLANS.values():
        expected = reference.aggregate("one", plan, world.exposures, world.events, world.contexts)
        assert same(await stores[1].aggregate("one", plan), expected)


def _together(look_up: Callable[[Any], Any], both: asyncio.Barrier) -> Callable[[Any], Any]:
    async def wait_for_the_other(ids: Any) -> Any:
        found = await look_up(ids)
        await both.wait()
        return found

    return wait_for_the_other


@pytest.mark.parametrize("table", [schema.EXPOSURES, schema.IDENTITIES, schema.REPEATS], ids=lambda table: table.name)
async def test_a_crash_between_the_inserts_and_a_retry_count_once(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch, table: schema.ClickHouseTable
) -> None:
    """Wherever the crash falls, and however the retry is cut."""
    world, crashing = World(8, events=300), await opened(url)
    failing(crashing, monkeypatch, table)
    sent = {client: [e for c, e in world.sent if c == client] for client in ("one", "two")}
    found = await asyncio.gather(
        *(crashing.append(client, events) for client, events in sent.items()),
        crashing.expose(world.exposures),
        return_exceptions=True,
    )
    assert any(isinstance(result, RuntimeError) for result in found)

    retrying = await opened(url)
    await world.fill(retrying, order=8)

    for name, plan in PLANS.items():
        expected = reference.aggregate("one", plan, world.exposures, world.events, world.contexts)
        assert same(await retrying.aggregate("one", plan), expected), name


async def test_reading_without_deduplication_is_noticed(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison catches a store that reads what is there."""
    world, crashing, retrying = World(9, events=200), await opened(url), await opened(url)
    failing(crashing, monkeypatch, schema.IDENTITIES)
    with pytest.raises(RuntimeError):
        await crashing.append("one", [e for c, e in world.events if c == "one"])
    await world.fill(retrying, order=9)
    plan = PLANS["several metrics"]
    expected = reference.aggregate("one", plan, world.exposures, world.events, world.contexts)

    assert same(await retrying.aggregate("one", plan), expected)
    monkeypatch.setitem(dialect.READING, "final", 0)
    assert not same(await retrying.aggregate("one", plan), expected)


async def test_the_same_rows_again_are_known_by_their_token(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry after a crash, in another order, stores nothing a second time."""
    events = [BUY._replace(event_id=f"id-{n}", fingerprint=n) for n in range(5)]
    crashing, retrying = await opened(url), await opened(url)
    failing(crashing, monkeypatch, schema.IDENTITIES)
    with pytest.raises(RuntimeError):
        await crashing.append("one", events)

    assert await retrying.append("one", events[::-1]) == [Verdict.ACCEPTED] * 5
    assert await stored(retrying) == 5


async def test_a_tail_tells_what_a_retry_stored_again_once(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though page after page holds nothing but repetitions; a tail that does not look them up tells them again."""
    events = [BUY._replace(event_id=f"id-{n}", fingerprint=n) for n in range(6)]
    crashing, retrying = await opened(url), await opened(url)
    failing(crashing, monkeypatch, schema.IDENTITIES)
    with pytest.raises(RuntimeError):
        await crashing.append("one", events[:5])
    seen = await retrying.recent("one", 10)
    await retrying.append("one", events)

    more = await retrying.recent("one", 2, seen[-1].place)

    assert await stored(retrying) == 11
    assert sorted(one.event_id for one in seen) == [event.event_id for event in events[:5]]
    assert [one.event_id for one in more] == ["id-5"]
    assert len(await retrying.recent("one", 20)) == 6
    monkeypatch.setitem(dialect.READING, "final", 0)
    assert len(await retrying.recent("one", 20, seen[-1].place)) == 6


async def test_other_contents_under_the_same_ids_are_not_taken_for_the_same_rows(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach the table; what was stored first counts."""
    crashing, retrying = await opened(url), await opened(url)
    await retrying.expose([SEEN])
    failing(crashing, monkeypatch, schema.IDENTITIES)
    with pytest.raises(RuntimeError):
        await crashing.append("one", [BUY])

    await retrying.append("one", [BUY._replace(value=99.0, fingerprint=8)])

    assert await stored(retrying) == 2
    assert await total(retrying) == (1, 1.0)


async def test_an_event_that_is_dated_to_its_receipt_counts_once_over_the_end_of_a_month(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its retry lies in another partition."""
    crashing, retrying = await opened(url), await opened(url)
    await retrying.expose([SEEN])
    failing(crashing, monkeypatch, schema.IDENTITIES)
    with pytest.raises(RuntimeError):
        await crashing.append("one", [BUY])
    month = 31 * 24 * 3_600_000_000

    await retrying.append("one", [BUY._replace(event_id="other"), BUY._replace(occurred_at=START + month)])

    found = await retrying.aggregate("one", AggregationPlan(1, (ANY,), None, END + 2 * month))
    assert [value.events for value in found.measured.values()] == [2]
    assert await stored(retrying) == 3


async def test_a_killed_server_is_unavailable_and_comes_back(private: ClickHouse, opened: Open) -> None:
    """What was acknowledged is there, through the same store."""
    store = await opened(private.url)
    await store.expose([SEEN])
    await store.append("one", [BUY])
    private.kill()

    for asking in (store.append("one", [BUY]), store.aggregate("one", PLAN), store.ping(), store.event_types("one")):
        with pytest.raises(Unavailable) as raised:
            await asking
        assert raised.value.retry_after == 1
    private.start()

    assert await store.ping() == "ok"
    assert await total(store) == (1, 1.0)
    assert await store.append("one", [BUY, BUY._replace(event_id="new")]) == [Verdict.DUPLICATE, Verdict.ACCEPTED]


async def test_many_who_wait_for_a_server_that_is_away_fail_together(opened: Open) -> None:
    """Nobody waits for another one's attempt to end before the own begins."""
    url = f"clickhouse://127.0.0.1:{free_port()}/default"
    store, attempts = await opened(url), itertools.count()
    connect = store._connection._client._work

    async def slow() -> Any:
        next(attempts)
        await asyncio.sleep(0.2)
        return await connect()

    store._connection._client._work = slow
    found = await asyncio.gather(*(store.event_types("one") for _ in range(100)), return_exceptions=True)

    assert all(isinstance(result, Unavailable) for result in found)
    assert next(attempts) == 1


@pytest.mark.slow
async def test_a_server_that_hangs_keeps_nobody_waiting(private: ClickHouse, opened: Open) -> None:
    """An append gives up after five seconds; once the server goes on, the retry counts once."""
    store = await opened(private.url)
    await store.expose([SEEN])
    private.pause()
    try:
        async with losing() as lost:
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                await store.append("one", [BUY])
            assert time.monotonic() - begun - lost() < 8
    finally:
        private.resume()

    await store.append("one", [BUY])
    assert await total(store) == (1, 1.0)


async def test_a_server_may_come_after_the_program(private: ClickHouse, opened: Open) -> None:
    """Opening does not wait for it."""
    private.kill()
    store = await opened(private.url)
    with pytest.raises(Unavailable):
        await store.append("one", [BUY])
    private.start()

    assert await store.append("one", [BUY]) == [Verdict.ACCEPTED]


async def test_an_answer_that_takes_too_long_is_given_up(url: str, opened: Open) -> None:
    """The server stops by itself."""
    store = await opened(url)

    with pytest.raises(TimedOut):
        await store._connection.query("SELECT max(number) FROM numbers(1000000000000)", {"max_execution_time": 1})


# Rollups


class Telling:
    """A connection that lets something happen before everything that it is asked for."""

    def __init__(self, connection: Any, happens: Callable[[], Awaitable[None]]) -> None:
        self._connection, self._happens = connection, happens

    def __getattr__(self, name: str) -> Any:
        async def told(*arguments: Any) -> Any:
            await self._happens()
            return await getattr(self._connection, name)(*arguments)

        return told


async def removing_first(self: Upkeep) -> int:
    """A refresh that removes marks before it counts."""
    taken = rollups.due(await self._standing())
    [[version]] = await self._connection.query(upkeep._VERSION, dialect.LOOKING_UP)
    await self._remove([number for mark in taken for number in mark["marks"]])
    return await greenlet_spawn(self._recount, taken, version)


async def removing_all(self: Upkeep, _: Any) -> None:
    """Removes what came meanwhile as well."""
    await self._remove_where("true")


async def numbered_first(self: Upkeep) -> int:
    """A refresh that takes its version before it reads the marks."""
    [[version]] = await self._connection.query(upkeep._VERSION, dialect.LOOKING_UP)
    taken = rollups.due(await self._standing())
    rolled = await greenlet_spawn(self._recount, taken, version)
    await self._remove([number for mark in taken for number in mark["marks"]])
    return rolled


async def wrong_while_refreshing(url: str, opened: Open, *, backwards: bool = False) -> int:
    """Others append and refresh, in every order and before every statement of a refresh: how many answers are not complete."""
    first, second, third = [await opened(url) for _ in range(3)]
    events: list[tuple[str, Event]] = []
    wrong = 0
    await third.expose([SEEN])
    await third.refresh()

    async def append() -> None:
        event = BUY._replace(event_id=f"e{len(events)}")
        await third.append("one", [event])
        events.append(("one", event))

    async def check() -> None:
        nonlocal wrong
        wrong += not same(await third.aggregate("one", HOURS), reference.aggregate("one", HOURS, [SEEN], events, {}))

    connection = first._connection
    orders = ((), (append,), (append, second.refresh), (second.refresh, append))
    for others in reversed(orders) if backwards else orders:
        for moment in range(STATEMENTS):
            steps = itertools.count()

            async def happens(others: Any = others, moment: int = moment, steps: Iterator[int] = steps) -> None:
                if next(steps) == moment:
                    for work in others:
                        await work()
                    await check()

            await append()
            first._upkeep._connection = Telling(connection, happens)
            await first.refresh()
            await check()
            if wrong:
                return wrong
    return wrong


async def test_answers_are_complete_at_every_moment_of_a_refresh(url: str, opened: Open) -> None:
    """While one process refreshes, another one refreshes as well, and a third one appends; they take turns in every way."""
    assert await wrong_while_refreshing(url, opened) == 0


@pytest.mark.parametrize(
    ("name", "mutant", "backwards"),
    [("refresh", removing_first, False), ("_remove", removing_all, True), ("refresh", numbered_first, True)],
)
async def test_a_refresh_in_another_order_is_noticed(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch, *, name: str, mutant: Callable[..., Any], backwards: bool
) -> None:
    """Every step of a refresh has its place; which order of the others' work shows it soonest, differs."""
    monkeypatch.setattr(Upkeep, name, mutant)

    assert await wrong_while_refreshing(url, opened, backwards=backwards) > 0


async def test_a_refresh_that_stops_anywhere_is_made_up_for(url: str, opened: Open) -> None:
    """Whichever statement is its last."""
    crashing, reading = await opened(url), await opened(url)
    await reading.expose([SEEN])
    await reading.refresh()
    connection = crashing._connection
    for last in range(STATEMENTS + 1):
        await reading.append("one", [BUY._replace(event_id=f"e{last}")])
        steps = itertools.count()

        async def crash(steps: Iterator[int] = steps, last: int = last) -> None:
            if next(steps) == last:
                raise RuntimeError("crash")

        crashing._upkeep._connection = Telling(connection, crash)
        outcome = (await asyncio.gather(crashing.refresh(), return_exceptions=True))[0]
        found = await reading.aggregate("one", HOURS)
        assert [value.events for value in found.measured.values()] == [last + 1]

    assert outcome == 2
    assert await stored(reading, "marks") == 0


async def test_cells_that_all_users_left_are_noticed(url: str, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rolled-up row is replaced, not removed: one without users takes its place, and without that the old one counts on."""
    store = await opened(url)
    for leaves in (True, False):
        seen = replace(SEEN, user_id=f"u-{leaves}", variant=int(leaves))
        await store.expose([seen])
        await store.append("one", [BUY._replace(event_id=seen.user_id, user_id=seen.user_id)])
        await store.refresh()
        await store.withdraw("one", [Withdrawal(1, seen.user_id, OVERRIDE)])
        if not leaves:
            monkeypatch.setattr(upkeep, "_left", lambda *_: ())
        await store.refresh()

        found = await store.aggregate("one", HOURS)

        assert [part.events for part in found.measured.values()] == ([] if leaves else [1])


async def test_a_block_that_another_program_inserts_is_marked(url: str, opened: Open) -> None:
    """As one of an earlier version does: the tables themselves leave the marks."""
    store = await opened(url)
    await store.expose([SEEN])
    await store.append("one", [BUY])
    await store.refresh()
    assert await stored(store, "marks") == 0

    columns = ", ".join(name for name in schema.EVENTS.columns if name != "id_low")
    await store._connection.command(
        f"INSERT INTO events (id_low, {columns}) SELECT id_low + arrayJoin(range(1, 51)), {columns} FROM events"  # noqa: S608
    )

    assert await stored(store, "marks") == 2
    found = await store.aggregate("one", HOURS)
    assert [value.events for value in found.measured.values()] == [51]


async def test_a_period_that_is_not_over_is_marked_once(url: str, opened: Open) -> None:
    """However many blocks touch it; and nobody takes the mark."""
    store, now = await opened(url), int(datetime.now(UTC).timestamp()) * 1_000_000
    for number in range(5):
        await store.append("one", [BUY._replace(event_id=f"e{number}", occurred_at=now + 2 * HOUR)])
    await store._connection.command("OPTIMIZE TABLE marks FINAL")

    assert await store.refresh() == 0
    assert await stored(store, "marks") in (2, 4)  # four where the hour or the day changes meanwhile


async def test_events_whose_marks_failed_are_marked_by_the_retry(
    url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are stored before their marks are made; the retry repeats the block, and only the marks are new."""
    crashing, retrying = await opened(url), await opened(url)
    failing(crashing, monkeypatch, schema.IDENTITIES)
    made = schema.MARK_EVENTS.statement("x", None).replace("`x`.", "")
    for statement in ("DROP TABLE events_marks SYNC", made.replace("rand64()", "toUInt64(throwIf(true))")):
        await retrying._connection.command(statement)
    with pytest.raises((RuntimeError, Unavailable)):  # the engine as a library does not tell what happens in views
        await crashing.append("one", [BUY])
    assert (await stored(retrying), await stored(retrying, "marks")) == (1, 0)
    for statement in ("DROP TABLE events_marks SYNC", made):
        await retrying._connection.command(statement)

    await retrying.append("one", [BUY])

    assert (await stored(retrying), await stored(retrying, "marks")) == (1, 2)


async def test_a_database_from_before_rollups_is_marked(url: str, opened: Open) -> None:
    """Tables and views are made when they are missing, and everything that is there is counted until it is rolled up."""
    world, before = World(21, events=300), await opened(url)
    await world.fill(before, order=1)
    for name in ("events_marks", "exposures_marks", "marks", "rollups"):
        await before._connection.command(f"DROP TABLE {name} SYNC")
    after = await opened(url)
    expected = reference.aggregate("one", HOURS, world.exposures, world.events, world.contexts)

    assert same(await after.aggregate("one", HOURS), expected)
    assert await after.refresh() > 0
    assert same(await after.aggregate("one", HOURS), expected)


async def test_retention_drops_whole_months_and_leaves_the_later_ones_as_they_were(url: str, opened: Open) -> None:
    """With the marks of the dropped events, and no other."""
    store, month = await opened(url), 31 * 24 * HOUR
    await store.expose([SEEN])
    await store.append("one", [BUY])
    await store.refresh()
    later = BUY._replace(event_id="later", occurred_at=START + month)
    await store.append("one", [BUY._replace(event_id="unmarked"), later])
    keep_from = datetime.fromtimestamp((START + month) / 1_000_000, UTC) + timedelta(days=1)

    assert await store.maintain(keep_from, keep_from) == ["202510 dropped"]
    assert await store.maintain(keep_from, keep_from) == []

    assert await stored(store) == 1
    assert await stored(store, "marks") == 2
    periods = tuple(Period(start - start % HOUR, start - start % HOUR + HOUR) for start in (START, START + month))
    for _ in range(2):
        found = await store.aggregate("one", AggregationPlan(1, (BOUGHT,), None, END + 2 * month, periods))
        assert [value.events for value in found.measured.values()] == [1, 1]
        await store.refresh()


async def test_upkeep_of_a_cluster_speaks_to_all_of_its_servers(
    clickhouse_server: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted is on every replica first; the engine can read each statement."""
    monkeypatch.setattr(upkeep, "CLOCKS", 0.0)
    statements: list[str] = []

    class Recording:
        async def query(self, statement: str, _: Any = None) -> Any:
            statements.append(statement)
            if "groupArray(mark)" in statement:
                return [(0, 5, 0, HOUR, 0, [7, 8])]
            if "partition_id" in statement:
                return [("202509",), ("202510",)]
            if "EXISTS" in statement:
                return [(1, 0)]
            return [(5, 1)] if "event_types" in statement else [(1,)] if "version" in statement else []

        async def command(self, statement: str) -> None:
            statements.append(statement)

    of_cluster = Upkeep(Recording(), "upshot", "shards")  # type: ignore[arg-type]
    await of_cluster.refresh()
    await of_cluster.drop_before(datetime(2025, 10, 2, tzinfo=UTC))

    told = [understood(clickhouse_server, statement).replace("\n", " ") for statement in statements]
    assert [statement.split(" ON CLUSTER ")[0].strip() for statement in told if "ON CLUSTER" in statement] == [
        "SYSTEM SYNC REPLICA",
        "SYSTEM SYNC REPLICA",
        "SYSTEM SYNC REPLICA",
        "SYSTEM SYNC REPLICA",
        "DELETE FROM upshot.marks_local",
        "ALTER TABLE upshot.events_local",
        "DELETE FROM upshot.marks_local",
    ]
    assert "exposures_local" in told[4]
    assert "upshot.aliases " in told[5] + " "
    assert "min(exposures.exposed_at)" in told[7]


# Names


def test_keys_are_equal_in_every_process() -> None:
    """Nothing of this process goes into them."""
    program = "from upshot.eventstore.clickhouse.dictionary import *; print(client_key('é'), type_key('é', 'buy'))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout

    assert printed.split() == [str(client_key("é")), str(type_key("é", "buy"))]


async def test_two_processes_that_meet_the_same_new_names_store_them_once(url: str, opened: Open) -> None:
    """At once, and the store is the same for both."""
    stores = [await opened(url), await opened(url)]

    await asyncio.gather(*(store.append("one", [BUY._replace(event_id=str(n))]) for n, store in enumerate(stores)))

    for store in stores:
        assert [(seen.event_type, seen.events) for seen in await store.event_types("one")] == [("buy", 2)]


async def test_a_name_whose_key_is_taken_is_refused(url: str, opened: Open) -> None:
    """Two names never count as one."""
    store = await opened(url)
    await store._connection.command(
        f"INSERT INTO event_types (type_key, client_key, name) VALUES ({type_key('one', 'buy')}, 1, 'another')"  # noqa: S608
    )

    with pytest.raises(UpshotError, match="share one key"):
        await store.append("one", [BUY])
    assert await stored(store) == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("default@", "default:wrong@"), "refuses"),
        (("/default", "/absent"), "refuses"),
        (("/default", "/default?sharded=1"), "sharded"),
        (("/default", "/default?cluster=a'b"), "plain names"),
        (("/default", "/a`b"), "plain names"),
        (("default@127.0.0.1", ""), "host"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_url_that_cannot_be_used_stops_the_program(
    clickhouse_server: ClickHouse, change: tuple[str, str], complaint: str
) -> None:
    """The message says why."""
    with pytest.raises(ConfigurationError, match=complaint):
        await eventstore.connect(clickhouse_server.url.replace(*change))


@pytest.mark.parametrize(
    ("scheme", "module", "driver"),
    [("clickhouse", "server", "clickhouse_connect"), ("chdb", "inprocess", "chdb")],
)
async def test_a_missing_driver_is_named(
    monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, driver: str
) -> None:
    """With the command that installs it."""
    monkeypatch.delitem(sys.modules, f"upshot.eventstore.clickhouse.{module}", raising=False)
    monkeypatch.setitem(sys.modules, driver, None)

    with pytest.raises(ConfigurationError, match=rf"pip install 'upshot\[{scheme}\]'"):
        await eventstore.connect(f"{scheme}://127.0.0.1:{free_port()}/x")
