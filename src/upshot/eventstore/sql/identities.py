"""Who is one user, and who counts: ids that were linked, and users who were withdrawn.

Nothing of this is in the statements about a client that has no such thing: one question asks for it first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import FromClause, Select, Subquery, case, exists, func, literal, select, union_all

from upshot.events import IDENTITY_CONFLICT
from upshot.eventstore.sql.question import Column, Identities, Question

Fetch = Callable[[Select[Any]], Sequence[Mapping[str, Any]]]


def identified(question: Question, fetch: Fetch) -> Question:
    """The question with what there is to know of ids; as it is when that is known."""
    if question.identities is not None:
        return question
    [row] = fetch(standing(question))
    return replace(question, identities=Identities(bool(row["linked"]), bool(row["withdrawn"])))


def standing(question: Question) -> Select[Any]:
    """Whether any of the client's ids are linked, and any users withdrawn from the plan's experiments: linked, withdrawn."""
    aliases, withdrawals = question.forms.aliases.c, question.forms.withdrawals.c
    experiments = {number for number in (question.plan.experiment, question.plan.beside) if number is not None}
    linked = exists().where(aliases.client_key == question.client_key)
    withdrawn = exists().where(
        withdrawals.client_key == question.client_key, withdrawals.experiment.in_(sorted(experiments))
    )
    columns: list[Column] = [linked.label("linked"), withdrawn.label("withdrawn")]
    return select(*columns)


def exposures_of(
    question: Question, experiment: int, names: Sequence[str], label: str = "exposures"
) -> tuple[FromClause, list[Column]]:
    """The exposures that count in one experiment, with these columns: a table, and the conditions on its rows."""
    if not (question.linked or question.withdrawn):
        plain = question.forms.exposures if label == "exposures" else question.forms.exposures.alias(label)
        return plain, [plain.c.client_key == question.client_key, plain.c.experiment == experiment]
    users = _users(question, experiment, names, label)
    return users, [users.c.reason.is_(None)]


def left_out(question: Question, fetch: Fetch) -> dict[str, int]:
    """How many users are left out of the plan's experiment, by reason."""
    if question.plan.entry or not (question.linked or question.withdrawn):
        return {}
    users = _users(question, question.plan.experiment, ("exposed_at",), "exposures")
    query = select(users.c.reason, func.count().label("users"))
    found = query.where(users.c.reason.is_not(None), users.c.exposed_at < question.plan.end).group_by(users.c.reason)
    return {row["reason"]: int(row["users"]) for row in fetch(found)}


def contexts(question: Question) -> Select[Any]:
    """The contexts of all users who count in the plan's experiment."""
    table, conditions = exposures_of(question, question.plan.experiment, ("context",))
    return select(table.c.context).where(*conditions)


def aliases_of(question: Question) -> Subquery:
    """The client's linked ids, each with its user's key and id; the user's own is one of them."""
    table = question.forms.aliases.c
    query = select(table.alias_key, table.user_key, table.user_id)
    return query.where(table.client_key == question.client_key).subquery()


def by_id(question: Question, users: FromClause) -> tuple[FromClause, Column]:
    """Users with a row for each of their ids, and the column of the id's key: what events are joined to.

    PostgreSQL is told to find them first: it would rather join every event with every user than spread users over their ids.
    """
    if not question.linked:
        return users, users.c.user_key
    aliases = aliases_of(question)
    id_key = func.coalesce(aliases.c.alias_key, users.c.user_key).label("id_key")
    query = select(*users.c, id_key).join_from(users, aliases, aliases.c.user_key == users.c.user_key, isouter=True)
    found = query.cte().prefix_with("MATERIALIZED", dialect="postgresql")
    return found, found.c.id_key


def _users(question: Question, experiment: int, names: Sequence[str], label: str) -> Subquery:
    """Every exposed user once, with the columns of the first exposure, and the reason why the user does not count, or null."""
    first = _first(question, experiment, names)
    reason: Column = literal(None)
    query = select(*(first.c[name] for name in names))
    if question.linked:
        reason = case((first.c.lowest != first.c.highest, literal(IDENTITY_CONFLICT)))
    if question.withdrawn:
        reasons = _reasons(question, experiment)
        reason = func.coalesce(reasons.c.reason, reason) if question.linked else reasons.c.reason
        query = query.join_from(first, reasons, reasons.c.user_key == first.c.user_key, isouter=True)
    return query.add_columns(reason.label("reason")).subquery(label)


def _first(question: Question, experiment: int, names: Sequence[str]) -> Subquery:
    """The first exposure of each user; where ids are linked, with the lowest and the highest variant that the user was given.

    Only users with several ids can have several exposures: the others, who are most, are spared the sorting.
    """
    table = question.forms.exposures.c
    columns: dict[str, Column] = {name: table[name] for name in ("user_key", *names)}
    own = table.client_key == question.client_key, table.experiment == experiment
    if not question.linked:
        return select(*columns.values()).where(*own).subquery()
    aliases = aliases_of(question)
    joined = question.forms.exposures.outerjoin(aliases, aliases.c.alias_key == table.user_key)
    variants = (table.variant.label("lowest"), table.variant.label("highest"))
    alone = select(*columns.values(), *variants).select_from(joined).where(*own, aliases.c.alias_key.is_(None))
    return union_all(alone, _first_of_several(question, columns, own)).subquery()


def _first_of_several(question: Question, columns: Mapping[str, Column], own: tuple[Column, Column]) -> Select[Any]:
    """The first exposure of each user with several ids, and the bounds of the variants."""
    table, aliases = question.forms.exposures.c, aliases_of(question)
    user = {name: aliases.c[name] for name in ("user_key", "user_id") if name in columns}
    by_user: dict[str, Any] = {"partition_by": aliases.c.user_key}
    ranked = select(
        *(column.label(name) for name, column in {**columns, **user}.items()),
        func.row_number().over(**by_user, order_by=(table.exposed_at, table.id_high, table.id_low)).label("place"),
        func.min(table.variant).over(**by_user).label("lowest"),
        func.max(table.variant).over(**by_user).label("highest"),
    )
    joined = ranked.join_from(question.forms.exposures, aliases, aliases.c.alias_key == table.user_key)
    found = joined.where(*own).subquery()
    return select(*(found.c[name] for name in columns), found.c.lowest, found.c.highest).where(found.c.place == 1)


def _reasons(question: Question, experiment: int) -> Subquery:
    """Who was withdrawn from an experiment: user_key, and the reason, the first in the alphabet's order of a user's ids."""
    table = question.forms.withdrawals.c
    own = table.client_key == question.client_key, table.experiment == experiment
    if not question.linked:
        return select(table.user_key, table.reason).where(*own).subquery()
    aliases = aliases_of(question)
    user = func.coalesce(aliases.c.user_key, table.user_key)
    query = select(user.label("user_key"), func.min(table.reason).label("reason"))
    joined = query.join_from(question.forms.withdrawals, aliases, aliases.c.alias_key == table.user_key, isouter=True)
    return joined.where(*own).group_by(user).subquery()
