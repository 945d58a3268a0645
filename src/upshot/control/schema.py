"""The whole schema of the control store: the tables of experiments, of access, of webhooks and of linked ids share one metadata."""

from upshot.control import accesstables, hooktables, identitytables  # noqa: F401 - their tables join it
from upshot.control.tables import metadata

__all__ = ["metadata"]
