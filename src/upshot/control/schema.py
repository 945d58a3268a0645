"""The whole schema of the control store: the tables of experiments, access, webhooks and linked ids share one metadata."""

from upshot.control import accesstables, hooktables, identitytables  # noqa: F401 - their tables join it
from upshot.control.tables import metadata

__all__ = ["metadata"]
