"""The whole schema of the control store: the tables of experiments, of access, of features and of webhooks share one metadata."""

from upshot.control import accesstables, featuretables, hooktables  # noqa: F401 - their tables join it
from upshot.control.tables import metadata

__all__ = ["metadata"]
