"""What was lost on the way to us: the numbers that are missing in the sessions of exposed users.

Of many users a sample is enough, and reading every session of all of them would cost more than the result itself.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Double, Select, case, cast, func, not_, select

from upshot.events import SEQUENCES
from upshot.eventstore.sql.identities import by_id
from upshot.eventstore.sql.question import Column, Question
from upshot.eventstore.sql.sampling import looked_at
from upshot.eventstore.sql.users import exposed_users


def delivery(question: Question, types: Collection[int]) -> Select[Any]:
    """Per variant and phase the moments, over users with numbered events from their exposure on, of how many events they lost
    and how many they sent: variant, phase, users, losing (users who lost any), mean_0, mean_1, product_0_0, product_0_1,
    product_1_1. `types` are the keys of all of the client's event types.

    In a session a user sent as many events as its highest sequence number from the exposure on is above the highest before it,
    and lost those of them that did not come. Where that number is not above, as clocks may be set back, none were sent.
    """
    events = question.forms.events.c
    found, id_key = by_id(question, exposed_users(question))
    sequence = events.ordinal % SEQUENCES
    after = events.occurred_at >= found.c.exposed_at
    cells = (found.c.variant, found.c.phase, found.c.user_key)
    sampled = [] if question.linked else looked_at(question.plan, events)
    sessions = (
        select(
            *cells,
            func.count(case((after, 1))).label("received"),
            func.max(case((after, sequence))).label("highest"),
            func.coalesce(func.max(case((not_(after), sequence))), 0).label("before"),
        )
        .join_from(question.forms.events, found, events.user_key == id_key)
        .where(
            events.ordinal.is_not(None), events.type_key.in_(types), events.occurred_at < question.plan.end, *sampled
        )
        .group_by(*cells, events.ordinal - sequence)
        .subquery("sessions")
    )
    sent = sessions.select().with_only_columns(
        sessions.c.variant,
        sessions.c.phase,
        sessions.c.user_key,
        sessions.c.received,
        case((sessions.c.highest > sessions.c.before, sessions.c.highest - sessions.c.before), else_=0).label("sent"),
    )
    counted = sent.where(sessions.c.received > 0).subquery("counted")
    lost = case((counted.c.sent > counted.c.received, counted.c.sent - counted.c.received), else_=0)
    users = (
        select(
            counted.c.variant,
            counted.c.phase,
            cast(func.sum(lost), Double).label("lost"),
            cast(func.sum(counted.c.sent), Double).label("sent"),
        )
        .group_by(counted.c.variant, counted.c.phase, counted.c.user_key)
        .subquery("users")
    )
    columns: list[Column] = [
        func.count().label("users"),
        func.sum(case((users.c.lost > 0, 1), else_=0)).label("losing"),
        func.avg(users.c.lost).label("mean_0"),
        func.avg(users.c.sent).label("mean_1"),
        func.var_pop(users.c.lost).label("product_0_0"),
        question.forms.covariance(users.c.lost, users.c.sent).label("product_0_1"),
        func.var_pop(users.c.sent).label("product_1_1"),
    ]
    return select(users.c.variant, users.c.phase, *columns).group_by(users.c.variant, users.c.phase)
