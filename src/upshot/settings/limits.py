"""Settings that say how much callers may ask for, how fast they must be, and who may speak for them."""

from ipaddress import ip_network

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from upshot.ratelimits import quota_of


class LimitSettings(BaseSettings):
    """Proxies on both sides, connections, deadlines, quotas."""

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
