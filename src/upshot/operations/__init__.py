"""The product on one page: everything that Upshot can do, whoever asks (HTTP, command line, worker).

    experiments   create, read, search, change, move (start … archive), delete
    assignments   assign one user, many users, one user everywhere; import assignments made elsewhere
    events        ingest, list the types seen, import past events
    results       report, export
    relay         hand exposures from the control store to the event store

Each operation loads, decides with the pure core, and stores in one transaction of its own; the client comes first. None of
them knows about the web or about a database.
"""

from dataclasses import dataclass, field

from upshot.cache import Cache
from upshot.clock import Clock
from upshot.control import ControlStore
from upshot.eventstore import EventStore
from upshot.operations.relay import Relay


@dataclass(frozen=True)
class Stores:
    """What operations work with."""

    control: ControlStore
    events: EventStore
    cache: Cache
    clock: Clock
    relay: Relay = field(init=False)

    def __post_init__(self) -> None:
        """One relay for this process: two would do each other's work."""
        object.__setattr__(self, "relay", Relay(self.control, self.events))

    async def close(self) -> None:
        """Relay what waits, then let go of the stores."""
        await self.relay.run()
        await self.control.close()
        await self.events.close()
