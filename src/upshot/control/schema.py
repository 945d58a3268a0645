"""The whole schema of the control store: tables of experiments, access, features, webhooks, linked ids; one metadata."""

from upshot.control import accesstables, featuretables, hooktables, identitytables  # noqa: F401 - their tables join it
from upshot.control.tables import metadata

__all__ = ["metadata"]
