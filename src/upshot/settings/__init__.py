"""All settings, read once from the environment or `.env`, passed down from there.

Each is `UPSHOT_<NAME>`; a few plain names that deployments already use work as they are, too. With `_FILE` behind the name a
variable names a file that holds the value, as secrets of containers do.
"""

import os
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from upshot.access import DEFAULT_CLIENT
from upshot.environment import FILE, PREFIX, of_files, without_password
from upshot.errors import ConfigurationError
from upshot.settings.access import AccessSettings
from upshot.settings.limits import LimitSettings
from upshot.settings.process import ProcessSettings
from upshot.settings.stores import StoreSettings


class Settings(LimitSettings, AccessSettings, StoreSettings, ProcessSettings):
    """The effective settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @property
    def control_store_url(self) -> str:
        """Where control data is kept."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'control.db'}"

    @property
    def event_store_url(self) -> str:
        """Where events and exposures are kept: with the control data where these are on a server, else in an embedded store."""
        if self.events_url is None and self.database_url and not self.database_url.startswith("sqlite"):
            return self.database_url
        return self.events_url or f"duckdb:///{self.data_dir.absolute() / 'events.db'}"

    @property
    def event_replica_url(self) -> str | None:
        """Where results are read, when events are kept in the database that has a replica."""
        return self.read_database_url if self.event_store_url == self.database_url else None

    @property
    def event_owner_url(self) -> str | None:
        """Who changes the schema of the event store, when events are kept in the database that has an owner of its own."""
        return self.migration_database_url if self.event_store_url == self.database_url else None

    @property
    def embedded(self) -> bool:
        """Whether a store is a file that only one process may open."""
        schemes = {url.partition(":")[0] for url in (self.control_store_url, self.event_store_url)}
        return bool(schemes & {"sqlite", "duckdb", "chdb"})

    @property
    def clients(self) -> dict[str, str]:
        """Which client each configured token stands for."""
        tokens = {token.get_secret_value(): DEFAULT_CLIENT for token in self.valid_tokens}
        return tokens | self.token_client_id_map

    def masked(self) -> dict[str, str]:
        """The effective settings as text, secrets masked."""
        shown = {name: str(getattr(self, name)) for name in type(self).model_fields}
        shown["database_url"] = without_password(self.control_store_url)
        shown["events_url"] = without_password(self.event_store_url)
        for name in ("cache_url", "limits_url", "read_database_url", "migration_database_url", "egress_proxy", "queue_url",
                     "celery_broker_url"):  # fmt: skip
            shown[name] = without_password(getattr(self, name) or "None")
        for name in ("jwt_secret_key", "jwt_previous_secret_keys", "oidc_client_secret"):
            shown[name] = "configured" if getattr(self, name) else "none"
        shown["valid_tokens"] = f"{len(self.valid_tokens)} configured"
        shown["token_client_id_map"] = ", ".join(
            sorted(f"***:{client}" for client in self.token_client_id_map.values())
        )
        return shown


def load(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` (those that are not None) win over the environment.

    Raises:
        ConfigurationError: a value is unusable, or an UPSHOT_ variable is not one of ours; no value is repeated.
    """
    filed = of_files(Settings.model_fields)
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).removesuffix(FILE).lower() not in Settings.model_fields
    )
    if unknown:
        raise ConfigurationError(f"{unknown[0]}: there is no such setting; `upshot config` lists them")
    try:
        return Settings(**filed).model_copy(
            update={name: value for name, value in overrides.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise ConfigurationError(f"{name if name.isupper() else PREFIX + name.upper()}: {first['msg']}") from None
    except ValueError:
        raise ConfigurationError("VALID_TOKENS or TOKEN_CLIENT_ID_MAP: not valid JSON") from None
