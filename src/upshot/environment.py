"""How settings are written: variables that name a file, lists in one text, addresses with a password in them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from upshot.errors import ConfigurationError

PREFIX = "UPSHOT_"
FILE = "_FILE"


def plain(name: str) -> AliasChoices:
    """How a setting is called that deployments know by a plain name: by that, and as the others are."""
    return AliasChoices(f"{PREFIX}{name}", name)


def of_files(fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The values of settings whose variables, with `_FILE` behind their names, name a file; by the names that settings take.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    found: dict[str, Any] = {}
    for name, field in fields.items():
        choices = getattr(field.validation_alias, "choices", [f"{PREFIX}{name.upper()}"])
        for variable in (choice for choice in choices if choice + FILE in os.environ):
            path = Path(os.environ[variable + FILE])
            try:
                found[variable if field.validation_alias else name] = path.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigurationError(f"{variable}{FILE}: cannot be read: {error.strerror}") from None
    return found


def listed(value: Any) -> list[str]:
    """Texts separated by commas, or a JSON list of them; empty ones are none."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else [part.strip() for part in value.split(",")]
    return [str(text) for text in value if str(text)]


def without_password(url: str) -> str:
    """An address as it may be shown."""
    head, at, tail = url.rpartition("@")
    scheme, _, credentials = head.partition("://")
    return f"{scheme}://{credentials.partition(':')[0]}:***@{tail}" if at else url
