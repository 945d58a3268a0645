"""Callers for tests that ask operations directly, and what a store holds, byte by byte."""

from pathlib import Path

from upshot.access import Caller, system


def somebody(client: str) -> Caller:
    """One who may do everything for a client."""
    return system(client, "tests")


def stored_in(folder: Path) -> bytes:
    """All that a control store in a folder has written."""
    return b"".join(path.read_bytes() for path in folder.glob("control.db*"))
