"""Callers for tests that ask operations directly."""

from upshot.access import Caller, system


def somebody(client: str) -> Caller:
    """One who may do everything for a client."""
    return system(client, "tests")
