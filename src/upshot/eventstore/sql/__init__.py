"""From an aggregation plan to SQL: the one expression of which events count, compiled for every engine.

Events are joined to the exposures by the user's key, folded to one row per user, and only then to moments per variant: so an
active user weighs as much as a quiet one, and a store never hands rows to the statistics.

- ``question``      a plan as a store asks it
- ``identities``    who is one user, and who counts
- ``users``         users per cell
- ``folding``       one row per user
- ``measuring``     moments per cell, and rows for exports
- ``accumulating``  how numbers grow from period to period
- ``ordering``      numbers and values by rank
- ``funnels``       who came to which step
- ``joining``       how exposures and events come together
- ``losing``        what was lost of numbered events
"""

from upshot.eventstore.sql.accumulating import increments
from upshot.eventstore.sql.funnels import funnel
from upshot.eventstore.sql.identities import contexts, identified, left_out
from upshot.eventstore.sql.joining import exposed_last, joined
from upshot.eventstore.sql.losing import delivery
from upshot.eventstore.sql.measuring import moments, rows
from upshot.eventstore.sql.ordering import at_ranks, spread, values_at_ranks, values_below, values_counted
from upshot.eventstore.sql.question import UNCUT, Caps, Identities, Question, caps_of, folded, is_joint
from upshot.eventstore.sql.users import exposed

__all__ = [
    "UNCUT",
    "Caps",
    "Identities",
    "Question",
    "at_ranks",
    "caps_of",
    "contexts",
    "delivery",
    "exposed",
    "exposed_last",
    "folded",
    "funnel",
    "identified",
    "increments",
    "is_joint",
    "joined",
    "left_out",
    "moments",
    "rows",
    "spread",
    "values_at_ranks",
    "values_below",
    "values_counted",
]
