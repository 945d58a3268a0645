"""Open the backends that the settings name: what a server, a worker and a command have in common."""

from datetime import timedelta

from upshot import cache, control, eventqueue, eventstore
from upshot.access.keyring import PRIVATE, Keyring
from upshot.clock import SystemClock, new_letters
from upshot.datafolder import SECRET_FILE, kept_secret
from upshot.errors import ConfigurationError
from upshot.eventqueue.spool import Spool
from upshot.operations import Stores
from upshot.outbound import Outbound, through
from upshot.settings import Settings

SECRET_LETTERS = 64


def keyring_of(settings: Settings) -> Keyring:
    """The keys that sign and seal: those of the settings, else one of the data folder, made when it is needed first.

    Raises:
        ConfigurationError: a key is weak or not of the algorithm's kind.
    """
    lifetime = timedelta(minutes=settings.jwt_expiration_minutes)
    former = [key.get_secret_value() for key in settings.jwt_previous_secret_keys]
    if settings.jwt_secret_key is not None:
        return Keyring(settings.jwt_algorithm, [settings.jwt_secret_key.get_secret_value(), *former], lifetime)
    if settings.jwt_algorithm in PRIVATE:
        raise ConfigurationError(f"JWT_SECRET_KEY: {settings.jwt_algorithm} needs a private key")
    path = settings.data_dir / SECRET_FILE
    return Keyring(
        settings.jwt_algorithm, lambda: [kept_secret(path, lambda: new_letters(SECRET_LETTERS)), *former], lifetime
    )


async def open_stores(settings: Settings, *, spooling: bool = True) -> Stores:
    """The stores of one process. `spooling` is for servers: a spool belongs to the process that answers for it.

    Raises:
        ConfigurationError: a URL cannot be used, its driver is missing, or an embedded store is in use elsewhere.
    """
    control_store = await control.connect(
        settings.control_store_url, settings.read_database_url, settings.migration_database_url
    )
    try:
        return Stores(
            control_store,
            await eventstore.connect(settings.event_store_url, settings.event_replica_url, settings.event_owner_url),
            cache.connect(settings.cache_url),
            SystemClock(),
            queue=await eventqueue.connect(settings.queue_url) if settings.queue_url else None,
            spool=Spool(settings.data_dir / "spool", settings.spool_bytes)
            if settings.spool_bytes and spooling
            else None,
            keyring=keyring_of(settings),
            outbound=Outbound(through(settings.egress_proxy) if settings.egress_proxy else None),
        )
    except ConfigurationError:
        await control_store.close()
        raise
