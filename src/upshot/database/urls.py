"""Database URLs as people write them."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from upshot.errors import ConfigurationError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mysql+asyncmy",
}
SCHEMES = tuple(_DRIVERS)
_BLOCKING = {"mysql+asyncmy": "mysql+pymysql", "sqlite+aiosqlite": "sqlite"}


def parsed(url: str, setting: str) -> URL:
    """A URL with the driver that Upshot uses, whichever it names.

    Raises:
        ConfigurationError: it is not a URL of a database that Upshot knows.
    """
    try:
        found = make_url(url)
        scheme = found.get_backend_name()
        return found.set(drivername=_DRIVERS[scheme])
    except (ArgumentError, ValueError, KeyError):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigurationError(f"{setting}: not the URL of a database that is known here ({known})") from None


def blocking(url: URL) -> URL:
    """The same database through a driver without an event loop, as migrations use it."""
    return url.set(drivername=_BLOCKING.get(url.drivername, url.drivername))
