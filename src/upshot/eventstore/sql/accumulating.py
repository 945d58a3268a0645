"""How the numbers of users grow from period to period: what a cumulative series is made of."""

from typing import Any

from sqlalchemy import Double, Select, case, cast, func, literal, select

from upshot.aggregation import AggregationPlan
from upshot.eventstore.sql.folding import per_user, reached
from upshot.eventstore.sql.question import Column, Question, caps_of
from upshot.eventstore.sql.users import cell_names
from upshot.metrics import Kind, Metric


def increments(question: Question) -> Select[Any]:
    """Per cell and period, by how much the numbers of all users, and the products of these, grew: step_i_j, product_i_j_k;
    and how many more users have a number other than zero: active_i.

    A user's number at the end of a period is made of all events up to then. Summed up to a period these are the sums and sums of
    products over all users.
    """
    plan, users = question.plan, per_user(question)
    sums: dict[str, Column] = {
        name: func.sum(func.coalesce(cast(users.c[name], Double()), cast(literal(0), Double()))).over(
            partition_by=users.c.user_key, order_by=users.c.period
        )
        for name in _summed(plan)
    }
    cells = cell_names(plan)
    grown = select(
        *(users.c[name] for name in cells),
        *(total.label(name) for name, total in sums.items()),
        *(
            (total - func.coalesce(cast(users.c[name], Double()), cast(literal(0), Double()))).label(f"was_{name}")
            for name, total in sums.items()
        ),
    ).subquery("grown")
    was = {name: grown.c[f"was_{name}"] for name in sums}
    columns: list[Column] = []
    for place, metric in enumerate(plan.metrics):
        if metric in plan.accumulated:
            after, before = (_numbers_from(question, metric, place, found) for found in (grown.c, was))
            columns += [
                func.sum(a - b).label(f"step_{place}_{n}") for n, (a, b) in enumerate(zip(after, before, strict=True))
            ]
            columns.append(
                func.sum(case((after[0] != 0, 1), else_=0) - case((before[0] != 0, 1), else_=0)).label(
                    f"active_{place}"
                )
            )
            columns += [
                func.sum(after[one] * after[other] - before[one] * before[other]).label(
                    f"product_{place}_{one}_{other}"
                )
                for one in range(len(after))
                for other in range(one, len(after))
            ]
    own = [grown.c[name] for name in cells]
    return select(*own, *columns).group_by(*own).order_by(*own)


def _summed(plan: AggregationPlan) -> list[str]:
    """The columns of `per_user` that a user's numbers are made of."""
    found = []
    for place, metric in enumerate(plan.metrics):
        if metric in plan.accumulated:
            counted = metric.is_share and metric.kind is not Kind.THRESHOLD
            found += [f"events_{place}"] if counted else [f"{name}_{place}" for name in plan.numbers_of(metric)]
    return found


def _numbers_from(question: Question, metric: Metric, place: int, sums: Any) -> list[Column]:
    """A user's numbers from sums over time."""
    if metric.is_share:
        return [case((reached(metric, place, sums), 1.0), else_=0.0)]
    values = [sums[f"{name}_{place}"] for name in question.plan.numbers_of(metric)]
    return [caps.expression(value) for caps, value in zip(caps_of(question, metric), values, strict=True)]
