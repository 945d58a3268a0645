"""The Python SDK: variants and flags decided in this process, exposures and events sent in the background.

    from upshot.sdk import ExperimentClient

    client = ExperimentClient("http://127.0.0.1:8000", "upk_…")
    choice = client.variant("checkout", "user-1", {"country": "US"})
    client.track("user-1", "purchase", {"price": 25.0})

It decides by the core that it shares with the server (`assignment`, `targeting`, `flags`, `snapshot`), and knows nothing else of
the server. `upshot.sdk.testing` is for tests of applications, `upshot.sdk.openfeature` for those who use OpenFeature.
"""

from upshot.sdk.aio import AsyncExperimentClient
from upshot.sdk.client import ExperimentClient
from upshot.sdk.contract import AsyncExperiments, Choice, Evaluation, Experiments, Recording, Stats
from upshot.sdk.exchange import Occasion
from upshot.sdk.sticky import AsyncStickyStore, StickyStore

__all__ = [
    "AsyncExperimentClient",
    "AsyncExperiments",
    "AsyncStickyStore",
    "Choice",
    "Evaluation",
    "ExperimentClient",
    "Experiments",
    "Occasion",
    "Recording",
    "Stats",
    "StickyStore",
]
