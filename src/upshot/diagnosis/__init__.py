"""The experiment doctor: from what is stored to why there is no data, and what to do.

- ``facts``        what the stores say
- ``names``        event names that were meant to be others
- ``findings``     one rule per finding, with its words
- ``examination``  the numbers, and what the rules find in them
- ``model``        the diagnosis itself
- ``calls``        the three calls to try with
"""

from upshot.diagnosis.calls import Calls, calls
from upshot.diagnosis.examination import diagnose
from upshot.diagnosis.facts import Arrival, Assigned, Facts, Joined, Received
from upshot.diagnosis.model import Counts, Diagnosis, Finding, Last, Severity, Skew
from upshot.diagnosis.names import Awaited, awaited

__all__ = [
    "Arrival",
    "Assigned",
    "Awaited",
    "Calls",
    "Counts",
    "Diagnosis",
    "Facts",
    "Finding",
    "Joined",
    "Last",
    "Received",
    "Severity",
    "Skew",
    "awaited",
    "calls",
    "diagnose",
]
