"""Row-level security in a real PostgreSQL: a transaction sees its own client's rows, whatever its queries forget."""

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, text
from tests.backends.postgresql import PostgreSQL

from upshot import control, eventstore
from upshot.access import EVERYONE, Scope
from upshot.access.keys import ApiKey
from upshot.assignment import Assignment
from upshot.control import ControlStore, Credential
from upshot.control.store import SqlStore
from upshot.control.tables import metadata
from upshot.database import Database
from upshot.errors import ConfigurationError, Unavailable
from upshot.events import OVERRIDE, Event, Withdrawal
from upshot.experiments import Draft, create
from upshot.variants import VariantDraft

pytestmark = pytest.mark.slow

_numbers = itertools.count()

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ROLE, PASSWORD = "upshot_application", "a password of the application"


class TwoRoles:
    """A database with an owner and an application's role."""

    def __init__(self, server: PostgreSQL, powers: str = "") -> None:
        self.superuser = server.database(f"isolation_{next(_numbers)}")
        self.powers = powers

    async def prepare(self) -> None:
        """Make the two roles, each anew, and give the database to the owner."""
        database = Database(self.superuser, "DATABASE_URL")
        name = database.url.database
        async with database.begin() as connection:
            for role in (ROLE, "upshot_owner"):
                there = await connection.scalar(
                    text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role}
                )
                if not there:
                    await connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"))
            await connection.execute(text(f"ALTER ROLE {ROLE} NOSUPERUSER NOBYPASSRLS"))
            await connection.execute(text(f"ALTER DATABASE {name} OWNER TO upshot_owner"))
            await connection.execute(text("ALTER SCHEMA public OWNER TO upshot_owner"))
            if self.powers:
                await connection.execute(text(f"ALTER ROLE {ROLE} {self.powers}"))
        await database.close()

    def url(self, role: str) -> str:
        """The database as a role sees it."""
        place = Database(self.superuser, "DATABASE_URL").url
        shown = place.set(drivername="postgresql", username=role, password=PASSWORD)
        return shown.render_as_string(hide_password=False)


@pytest.fixture
async def roles(postgresql_server: PostgreSQL) -> TwoRoles:
    """A fresh database with two roles."""
    made = TwoRoles(postgresql_server)
    await made.prepare()
    return made


@pytest.fixture
async def store(roles: TwoRoles) -> AsyncIterator[SqlStore]:
    """The control store of the application's role, migrated by the owner, with an experiment, a user and a key of two clients."""
    opened = await control.connect(roles.url(ROLE), owner=roles.url("upshot_owner"))
    assert isinstance(opened, SqlStore)
    await fill(opened)
    yield opened
    await opened.close()


async def fill(store: ControlStore) -> None:
    """The same things for two clients."""
    for number, client in enumerate(("one", "two")):
        draft = Draft("mine", (VariantDraft("a"), VariantDraft("b")), key="mine")
        ids = iter(f"{client}-{n}" for n in range(100))
        async with store.transaction(client) as transaction:
            experiment = await transaction.add(client, create(draft, NOW, lambda ids=ids: next(ids)))  # type: ignore[misc]
            key = ApiKey(f"k{number}", "key", frozenset({Scope.ASSIGN}), (), "d" * 64, "wxyz", "u", NOW, None)
            await transaction.accounts.add_key(client, key)
        await store.assign(client, [Assignment(experiment.number, "visitor", 0, 1, NOW, NOW, "{}")])
        await store.link(client, [("anonymous", "visitor")], NOW)


async def seen(store: SqlStore, client: str | None) -> dict[str, int]:
    """How many rows of each table a transaction sees that filters nothing at all."""
    async with store._database.read(client=client) as connection:
        return {
            table.name: int(await connection.scalar(select(func.count()).select_from(table)) or 0)
            for table in metadata.sorted_tables
            if "client_id" in table.c or table.name == "outbox"
        }


async def test_a_query_without_a_filter_sees_no_foreign_row(store: SqlStore) -> None:
    """Of every table a client's transaction sees half, one that says no client nothing; only work for everybody sees all."""
    mine, nobodys, all_of_it = await seen(store, "one"), await seen(store, None), await seen(store, EVERYONE)

    held = {name for name, rows in all_of_it.items() if rows and name != "outbox"}
    assert held == {"experiments", "variants", "phases", "assignments", "api_keys", "identity_links", "revisions"}
    assert {name: 2 * rows for name, rows in mine.items() if name in held} == {name: all_of_it[name] for name in held}
    assert all_of_it["outbox"] == 4
    assert mine["outbox"] == 0
    assert set(nobodys.values()) == {0}


async def test_a_foreign_row_can_be_neither_written_nor_changed(store: SqlStore) -> None:
    """An insert in another's name fails; changes and removals meet nothing."""
    with pytest.raises(Unavailable, match="refuses"):
        async with store._database.begin(client="one") as connection:
            await connection.execute(text("INSERT INTO client_settings VALUES ('two', '{}')"))
    async with store._database.begin(client="one") as connection:
        changed = await connection.execute(text("UPDATE api_keys SET name = 'taken'"))
        removed = await connection.execute(text("DELETE FROM assignments WHERE client_id = 'two'"))

    assert (changed.rowcount, removed.rowcount) == (1, 0)


async def test_a_clients_own_transaction_adds_to_the_outbox_and_sees_nothing_of_it(store: SqlStore) -> None:
    """Withdrawals leave with the change that causes them; a transaction that says no client may not even add."""
    gone = [Withdrawal(1, "visitor", OVERRIDE)]
    async with store.transaction("one") as transaction:
        await transaction.withdraw("one", gone)

    assert (await seen(store, "one"))["outbox"] == 0
    assert [entry.withdrawals for _, entry in await store.outbox(10) if entry.withdrawals] == [{"one": gone}]
    with pytest.raises(Unavailable, match="refuses"):
        async with store._database.begin() as connection:
            await connection.execute(text("INSERT INTO outbox (exposures) VALUES ('[]')"))


async def test_a_connection_forgets_whose_it_was(store: SqlStore) -> None:
    """The client is said for one transaction: who borrows the connection next, and says none, sees nothing."""
    for _ in range(20):
        await seen(store, "one")

        assert set((await seen(store, None)).values()) == {0}


async def test_all_goes_on_as_with_one_role(store: SqlStore, roles: TwoRoles) -> None:
    """What is asked for everybody, and the event store beside it, whose partitions the owner makes and drops."""
    events = await eventstore.connect(roles.url(ROLE), owner=roles.url("upshot_owner"))
    moment = int(NOW.timestamp() * 1_000_000)

    taken = await events.append("one", [Event("e1", "visitor", "visit", moment, moment, None, "{}", None, 0, 1)])
    made = await events.maintain(NOW, None)

    assert len(taken) == 1
    assert any("made" in line for line in made)
    assert [found.event_type for found in await events.event_types("one")] == ["visit"]
    assert await store.owner(Credential.KEY, "k1") == "two"
    assert len(await store.running()) == 2
    assert len(await store.outbox(10)) == 4
    await events.close()


async def test_the_application_can_neither_change_the_log_nor_the_schema(store: SqlStore) -> None:
    """Those are the owner's."""
    for statement in (
        "UPDATE audit SET action = 'x'", "DELETE FROM audit", "TRUNCATE audit",
        "ALTER TABLE experiments DISABLE ROW LEVEL SECURITY",
        "DROP POLICY experiments_client ON experiments", "DROP TABLE audit", "UPDATE alembic_version SET version_num = 'x'",
        "CREATE TABLE mine (n int)",
    ):  # fmt: skip
        with pytest.raises(Unavailable, match="refuses"):
            async with store._database.begin(client=EVERYONE) as connection:
                await connection.execute(text(statement))


@pytest.mark.parametrize("powers", ["SUPERUSER", "BYPASSRLS", "IN"])
async def test_a_role_that_could_see_everything_is_refused(postgresql_server: PostgreSQL, powers: str) -> None:
    """At the start, when the operator has separated the roles: a superuser, one with BYPASSRLS, one that is the owner, too."""
    roles = TwoRoles(postgresql_server, "" if powers == "IN" else powers)
    await roles.prepare()
    owner = roles.url("upshot_owner")

    with pytest.raises(ConfigurationError, match="row-level security would not bind") as refused:
        await control.connect(owner if powers == "IN" else roles.url(ROLE), owner=owner)

    assert PASSWORD not in refused.value.detail
    await TwoRoles(postgresql_server).prepare()


async def test_the_check_of_rows_finds_a_role_that_bypasses_them(postgresql_server: PostgreSQL) -> None:
    """With one URL and a superuser everything works, and nothing is hidden from a query that forgets its filter."""
    opened = await control.connect(postgresql_server.database(f"isolation_{next(_numbers)}"))
    assert isinstance(opened, SqlStore)
    await fill(opened)

    mine = await seen(opened, "one")

    assert mine["experiments"] == 2
    await opened.close()
