"""The product on one page: everything that Upshot can do, whoever asks (HTTP, command line, worker).

    experiments   create, read, search, change, move (start … archive), delete
    approvals     what needs a second person: ask, approve, reject
    credentials   who a token, key or cookie stands for
    signin        by password, by a provider; refresh
    sessions      list and end sign-ins
    factors       second factors: asked for, taken off; new recovery codes
    people        accounts, roles, invitations, passwords
    keys          API keys: make, rotate, revoke
    once          do what was asked for with a key once, and give the answer again
    audit         who did what; what a client's admins chose
    webhooks      register, tell, deliver
    alarms        watch what runs for those who want to know
    layers        make and list layers; the slices of an experiment
    holdouts      make, list and end holdouts; attach an experiment
    flags         make, change, list and delete flags; evaluate them for a user
    snapshots     what decides for a client, all at once
    metrics       define, read, search, change, archive; what a text stands for in an experiment
    copies        what the cache keeps of experiments, assignments and linked ids
    assignments   assign one user, many users, one user everywhere
    elsewhere     import assignments made elsewhere; take in what SDKs, which decide by themselves, have shown
    withdrawals   leave out of results whom an override is shown to
    identities    let an anonymous id and a known one be one user
    events        ingest, list the types seen, import past events
    deliveries    store what a queue delivers
    results       report, export
    diagnosis     why an experiment has the data that it has
    planner       users, days and effects of an experiment to come
    relay         hand exposures, links and withdrawals from the control store to the event store
    pending       store what was answered while the database was away
    given         store assignments that were made without the store
    sealing       seal anew what a former key sealed
    schedule      what is done regularly: partitions, rollups, retention, exports to files

Each operation loads, decides with the pure core, and stores in one transaction of its own; the client comes first. None of
them knows about the web or about a database.
"""

from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from upshot.access.keyring import Keyring
from upshot.access.passwords import Passwords
from upshot.cache import Cache
from upshot.clock import Clock
from upshot.control import ControlStore
from upshot.errors import Unavailable
from upshot.eventqueue import EventQueue
from upshot.eventqueue.spool import Spool
from upshot.eventstore import EventStore
from upshot.operations.pending import Pending
from upshot.operations.relay import Relay
from upshot.outbound import Outbound
from upshot.singleflight import SingleFlight


@dataclass(frozen=True)
class Stores:
    """What operations work with. With a queue, events go there first; a spool takes them while that is away."""

    control: ControlStore
    events: EventStore
    cache: Cache
    clock: Clock
    queue: EventQueue | None = None
    spool: Spool | None = None
    keyring: Keyring = field(default_factory=Keyring.ephemeral)
    passwords: Passwords = field(default_factory=Passwords)
    outbound: Outbound = field(default_factory=Outbound)
    relay: Relay = field(init=False)
    pending: Pending = field(default_factory=Pending)
    reading: SingleFlight = field(default_factory=SingleFlight)
    published: dict[str, Any] = field(default_factory=dict)  # by client: what snapshots.py remembers

    def __post_init__(self) -> None:
        """One relay for this process: two would do each other's work."""
        object.__setattr__(self, "relay", Relay(self.control, self.events))

    def through(self, control: ControlStore, cache: Cache) -> "Stores":
        """The same stores, of which the control store and the cache are seen through others."""
        seen = copy(self)
        object.__setattr__(seen, "control", control)
        object.__setattr__(seen, "cache", cache)
        return seen

    async def close(self) -> None:
        """Store and relay what waits, where that can be done now, then let go of the stores."""
        with suppress(Unavailable):
            await self.pending.store(self.control)
            await self.relay.run()
        self.passwords.close()
        await self.cache.close()
        await self.control.close()
        await self.events.close()
        if self.queue is not None:
            await self.queue.close()
        if self.spool is not None:
            await self.spool.close()
