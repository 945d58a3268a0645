"""All settings, read once from the environment or `.env`, passed down from there.

Each is `UPSHOT_<NAME>`; a few plain names that deployments already use work as they are, too. With `_FILE` behind the name a
variable names a file that holds the value, as secrets of containers do.
"""

import json
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from upshot.access import DEFAULT_CLIENT, EVERYONE
from upshot.environment import FILE, PREFIX, listed, of_files, without_password
from upshot.errors import ConfigurationError
from upshot.ratelimits import quota_of

TOKEN_LENGTH = 8
CLIENT_LENGTH = 120


def _plain(name: str) -> Any:
    return AliasChoices(f"{PREFIX}{name}", name)


class Settings(BaseSettings):
    """The effective settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(Path("upshot-data"), description="Folder of the embedded stores and of the first token.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    database_url: str | None = Field(
        None,
        validation_alias=_plain("DATABASE_URL"),
        description="Control store: sqlite:///, postgresql:// or mysql:// (MariaDB); a SQLite file in the data folder otherwise.",
    )
    migration_database_url: str | None = Field(
        None,
        validation_alias=_plain("MIGRATION_DATABASE_URL"),
        description="The same PostgreSQL database with the role that owns the tables and changes the schema; then the role of "
        "`DATABASE_URL` must not be able to bypass row-level security.",
    )
    read_database_url: str | None = Field(
        None,
        validation_alias=_plain("READ_DATABASE_URL"),
        description="A replica of the control store's database: lists and results read it, assignments never do.",
    )
    events_url: str | None = Field(
        None,
        description="Event store: duckdb:///, postgresql://, mysql://, sqlite:///, clickhouse:// or chdb:///; by default the "
        "database of `DATABASE_URL` where that is a server, else a DuckDB file in the data folder.",
    )
    queue_url: str | None = Field(
        None,
        validation_alias=_plain("QUEUE_URL"),
        description="Queue in front of the event store: amqp://, redis://, kafka:// or sqs://; `upshot worker` empties it.",
    )
    spool_bytes: int = Field(
        0,
        ge=0,
        description="How much a local spool may hold while queue or event store are away; 0 answers 503 instead.",
    )
    retention_days: int | None = Field(
        None, ge=1, description="How long events are kept, in days; for ever by default. Assignments and results stay."
    )
    export_dir: Path | None = Field(
        None, description="Folder into which user-level rows of every running experiment are written once a day."
    )
    export_format: str = Field(
        "csv", pattern="^(csv|ndjson|parquet)$", description="Format of the files in the export folder."
    )
    scheduler: str = Field(
        "worker", pattern="^(worker|celery)$", description="Who does the scheduled work: our own processes, or Celery."
    )
    celery_broker_url: str | None = Field(
        None, description="Broker of `celery -A upshot.celeryapp`: amqp:// or redis://."
    )
    cache_url: str = Field("memory://", description="Cache of experiments and assignments.")
    valid_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validation_alias=_plain("VALID_TOKENS"),
        description='Bearer tokens of the client "default": separated by commas, or a JSON list.',
    )
    token_client_id_map: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        validation_alias=_plain("TOKEN_CLIENT_ID_MAP"),
        description="Which client a token belongs to: a JSON object, or token:client pairs separated by commas.",
    )  # fmt: skip
    jwt_secret_key: SecretStr | None = Field(
        None,
        validation_alias=_plain("JWT_SECRET_KEY"),
        description="Signs access tokens and seals secrets: at least 32 random bytes, or a private key as PEM; without it, "
        "one of the data folder, which several machines do not share.",
    )
    jwt_previous_secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        validation_alias=_plain("JWT_PREVIOUS_SECRET_KEYS"),
        description="Keys that sign no more and are still believed, while one is replaced: separated by commas, or a JSON list.",
    )
    jwt_algorithm: str = Field(
        "HS256",
        validation_alias=_plain("JWT_ALGORITHM"),
        description="The one algorithm of access tokens: HS256, HS384, HS512, RS256, PS256, ES256, ES384 or Ed25519.",
    )
    jwt_expiration_minutes: int = Field(
        15,
        ge=1,
        le=60,
        validation_alias=_plain("JWT_EXPIRATION_MINUTES"),
        description="How long an access token is good; a refresh token brings the next one.",
    )
    public_url: str | None = Field(
        None,
        pattern="^https?://[^/?#]+$",
        description="The address of this server for people, such as https://ab.example.com: "
        "for links in invitations and sign-in by a provider.",
    )
    oidc_issuer: str | None = Field(
        None,
        description="Provider that people sign in by (OpenID Connect): its issuer URL, below which its discovery document is.",
    )
    oidc_client_id: str | None = Field(None, description="Who we are to the provider.")
    oidc_client_secret: SecretStr | None = Field(None, description="Our secret there; none for a public client.")
    oidc_scopes: str = Field("openid email profile groups", description="What the provider is asked for.")
    oidc_groups_claim: str = Field("groups", description="The claim that holds a person's groups.")
    oidc_roles: str = Field(
        "",
        description="Which group has which role: group:role pairs separated by commas, or a JSON object; `*` is everybody.",
    )
    oidc_upshot_client: str = Field(DEFAULT_CLIENT, description="The client that people of the provider belong to.")
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of the proxies before this server, separated by commas: what only they say of a "
        "caller's address and scheme (X-Forwarded-For, X-Forwarded-Proto) is believed. By default nobody.",
    )
    egress_proxy: str | None = Field(
        None,
        description="Proxy of outgoing webhooks, http://[user:password@]host:port; by default none, whatever the machine has.",
    )
    connections_per_address: int = Field(
        1024, ge=0, description="Open connections that one address may have; 0 for no cap."
    )
    keep_alive_seconds: int = Field(
        5,
        ge=1,
        le=3600,
        description="How long a connection may rest between requests; behind a load balancer longer than its own time: 75.",
    )
    head_seconds: float = Field(10, ge=1, le=600, description="Within how long the head of a request must be complete.")
    body_seconds: float = Field(
        30,
        ge=1,
        le=3600,
        description="Within how long a body must be complete, or have brought 1 KiB for each second of it, and so on.",
    )
    concurrent_requests: int = Field(
        1000, ge=1, description="Requests that may be under way at once; more are answered 503 at once."
    )
    limits_url: str = Field(
        "memory://",
        description="Where it is counted what callers may still ask: in each process, or shared by all, redis://host:6379/0.",
    )
    limit_events: str = Field(
        "1000/s burst 5000",
        description="Events that a client, and each of its credentials, may send: so many per s, min or h, and so many at once; "
        "or `off`. The same form holds for the limits below.",
    )
    limit_assignments: str = Field("2000/s", description="Assignments that may be asked for.")
    limit_management: str = Field("10/s burst 50", description="Requests about experiments, metrics, plans and keys.")
    limit_results: str = Field("5/s", description="Results that may be asked for; at most 4 are computed at once.")
    limit_export: str = Field("1/min", description="Exports that may be begun; one runs at a time.")
    limit_login_address: str = Field(
        "20/min", description="Attempts to sign in from one address; an IPv6 address counts as its /64."
    )
    limit_login_account: str = Field("5/min", description="Attempts to sign in to one account.")
    limit_refresh: str = Field("30/min", description="Prolongations of sessions.")
    limit_keys: str = Field("10/h", description="Keys that may be made.")
    log_level: str = Field(
        "warning",
        pattern="^(debug|info|warning|error)$",
        description="How much is logged; the security log is whole at any level.",
    )
    log_format: str = Field("text", pattern="^(text|json)$", description="Lines of text, or a JSON object each.")

    @field_validator("jwt_previous_secret_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("valid_tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: Any) -> Any:
        tokens = listed(value)
        if any(len(token) < TOKEN_LENGTH for token in tokens):
            raise ValueError(f"a token has at least {TOKEN_LENGTH} characters")
        return tokens

    @field_validator("token_client_id_map", mode="before")
    @classmethod
    def _split_map(cls, value: Any) -> Any:
        if isinstance(value, str):
            pairs = [part.strip().rpartition(":") for part in value.split(",") if part.strip()]
            value = (
                json.loads(value) if value.lstrip().startswith("{") else {token: client for token, _, client in pairs}
            )
        mapped = {str(token): str(client) for token, client in dict(value).items()}
        if any(
            not token or not 0 < len(client) <= CLIENT_LENGTH or client == EVERYONE for token, client in mapped.items()
        ):
            raise ValueError("every entry is a token and a client id of at most 120 characters that is not *")
        return mapped

    @field_validator(
        "limit_events", "limit_assignments", "limit_management", "limit_results", "limit_export", "limit_login_address",
        "limit_login_account", "limit_refresh", "limit_keys",
    )  # fmt: skip
    @classmethod
    def _check_limit(cls, value: str) -> str:
        quota_of("", value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        for part in value.split(",") if value else ():
            try:
                ip_network(part.strip())
            except ValueError:
                raise ValueError("every entry is an address, or a network such as 10.0.0.0/8") from None
        return value

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
        tokens = {token.get_secret_value(): "default" for token in self.valid_tokens}
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
