"""From users to moments per cell; and the rows of users themselves, for exports."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Double, Select, Subquery, case, cast, func, literal, select

from upshot.eventstore.sql.folding import numbers_of_user, per_user, reached, when
from upshot.eventstore.sql.funnels import steps
from upshot.eventstore.sql.question import UNCUT, Column, Question, folded, is_joint
from upshot.eventstore.sql.users import cell_names, exposed_users, over
from upshot.metrics import Kind, Metric

# MariaDB's covariance of y² and y needs y⁴; four such factors, and what many users add up to, fit into a double.
SMALLEST_CUBED, LARGEST_CUBED = 1e-75, 1e75


def moments(question: Question) -> Select[Any]:
    """Per cell and metric: users with events, events, mean and population variance over those users; late events.

    Columns: variant, phase, [period,] [segments,] late and rows (users with any event), then for each folded metric i:
    users_i, events_i, unless it is a share total_i, mean_i and variance_i, of an average third_i, the third central moment (not
    where the plan is broken down; null where a number is too large to be cubed), and where several numbers are needed mean_i_j
    and product_i_j_k, the population covariance over all rows; then count_k for every needed type k.
    """
    plan, users = question.plan, per_user(question)
    cells = [users.c[name] for name in cell_names(plan)]
    columns: list[Column] = [func.coalesce(func.sum(users.c.late), 0).label("late"), func.count().label("rows")]
    for place, metric in folded(plan):
        columns += _moments_of(question, metric, place, users)
    columns += [func.coalesce(func.sum(users.c[f"type_{key}"]), 0).label(f"count_{key}") for key in question.needed]
    return select(*cells, *columns).group_by(*cells).order_by(*cells)


def _moments_of(question: Question, metric: Metric, place: int, users: Subquery) -> Iterator[Column]:
    number, value = users.c[f"events_{place}"], users.c.get(f"value_{place}")
    counted = case((reached(metric, place, users.c), number)) if metric.kind is Kind.THRESHOLD else number
    yield func.count(counted).label(f"users_{place}")
    yield func.coalesce(func.sum(number), 0).label(f"events_{place}")
    if value is not None and not metric.is_share:
        # Centred inside the engine: raw sums of squares lose everything when the mean is large beside the spread.
        cut = question.caps.get((metric.key, "value"), UNCUT).expression(value)
        yield func.coalesce(func.sum(value), 0.0).label(f"total_{place}")
        yield func.avg(cut).label(f"mean_{place}")
        yield func.var_pop(cut).label(f"variance_{place}")
        if metric.is_average and not question.plan.is_broken_down:
            yield _third_moment(question, cut).label(f"third_{place}")
    if is_joint(question.plan, metric):
        numbers = numbers_of_user(question, metric, place, users)
        for first, one in enumerate(numbers):
            yield func.avg(one).label(f"mean_{place}_{first}")
            for second, another in enumerate(numbers[first:], first):
                product = func.var_pop(one) if first == second else question.forms.covariance(one, another)
                yield product.label(f"product_{place}_{first}_{second}")


def _third_moment(question: Question, number: Column) -> Column:
    """The third central moment of a number. Some engines fail when a product is too large or too small for a double: there is
    none where a number is too large, and one that is too small counts as zero."""
    zero: Column = cast(literal(0), Double())
    safe = case((func.abs(number) < SMALLEST_CUBED, zero), (func.abs(number) < LARGEST_CUBED, number))
    return case((func.count(safe) == func.count(number), question.forms.third_moment(safe)))


def rows(question: Question) -> Select[Any]:
    """One row per exposed user, whether or not it has events: what an export streams; the numbers of
    `plan.exported`, null for a user whose window is not over."""
    plan, found, users = question.plan, exposed_users(question, context=True), per_user(question)
    measured: list[Column] = []
    full = question.forms.full_joins
    joined: Any = found.outerjoin(users, found.c.user_key == users.c.user_key, full=full)
    for place, metric in enumerate(plan.metrics):
        numbers: list[Column] = []
        if metric.kind is Kind.FUNNEL:
            last = steps(question, metric, f"step_{place}")[-1]
            joined = joined.outerjoin(last, found.c.user_key == last.c.user_key, full=full)
            numbers = [case((last.c.user_key.is_not(None), 1), else_=0)]
        elif metric.is_folded:
            numbers = numbers_of_user(question, metric, place, users)
        ended = [over(metric, found.c.exposed_at, plan)] if metric.complete else []
        measured += [when(ended, number).label(f"metric_{place}_{index}") for index, number in enumerate(numbers)]
    return select(
        found.c.user_id, found.c.variant, found.c.phase, found.c.exposed_at, found.c.context, *measured
    ).select_from(joined)
