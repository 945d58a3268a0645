"""Open the backends that the settings name: what a server, a worker and a command have in common."""

from upshot import cache, control, eventqueue, eventstore
from upshot.clock import SystemClock
from upshot.errors import ConfigurationError
from upshot.eventqueue.spool import Spool
from upshot.operations import Stores
from upshot.settings import Settings


async def open_stores(settings: Settings, *, spooling: bool = True) -> Stores:
    """The stores of one process. `spooling` is for servers: a spool belongs to the process that answers for it.

    Raises:
        ConfigurationError: a URL cannot be used, its driver is missing, or an embedded store is in use elsewhere.
    """
    control_store = await control.connect(settings.control_store_url, settings.read_database_url)
    try:
        return Stores(
            control_store,
            await eventstore.connect(settings.event_store_url, settings.event_replica_url),
            cache.connect(settings.cache_url),
            SystemClock(),
            queue=await eventqueue.connect(settings.queue_url) if settings.queue_url else None,
            spool=Spool(settings.data_dir / "spool", settings.spool_bytes)
            if settings.spool_bytes and spooling
            else None,
        )
    except ConfigurationError:
        await control_store.close()
        raise
