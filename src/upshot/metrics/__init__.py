"""Metrics: what is measured per user. Definitions are data; this room gives them their meaning.

Map of the room:

- ``model``       what a metric is: kinds, sources of events, quantities per user
- ``definition``  reading a metric's definition (JSON); ``description`` writes it, ``durations`` reads 7d
- ``references``  what a text such as "purchase" or "revenue" stands for, and which metrics a result holds
"""

from upshot.metrics.definition import define
from upshot.metrics.description import describe
from upshot.metrics.model import Direction, Fold, Kind, Metric, Quantity, Role, Source, Unit, Winsorising
from upshot.metrics.references import METRICS, Definitions, asked_for, guardrails_of, of_experiment, parse, parse_all

__all__ = [
    "METRICS",
    "Definitions",
    "Direction",
    "Fold",
    "Kind",
    "Metric",
    "Quantity",
    "Role",
    "Source",
    "Unit",
    "Winsorising",
    "asked_for",
    "define",
    "describe",
    "guardrails_of",
    "of_experiment",
    "parse",
    "parse_all",
]
