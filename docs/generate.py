"""Writes the reference pages from the code: settings, commands, HTTP paths, error codes. `make docs` runs it.

A page that is not what this module would write fails a test, so that code without its documentation cannot land.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic_core import PydanticUndefined

from upshot import errors
from upshot.cli import commands
from upshot.environment import PREFIX
from upshot.http.app import create_app
from upshot.settings import Settings

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `make docs` from the code; do not edit. -->\n"


def settings_page() -> str:
    """Every setting."""
    lines = [
        "# Settings\n", _NOTE,
        "Read once at the start, from the environment or a file `.env`. `upshot config` prints the effective ones.\n",
        "| variable | also | default | meaning |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, field in Settings.model_fields.items():
        choices = getattr(field.validation_alias, "choices", [])
        also = ", ".join(f"`{c}`" for c in choices if not str(c).startswith(PREFIX))
        default = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
        shown = "" if default in (None, (), {}) else f"`{default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {also} | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its options."""
    lines = ["# Commands\n", _NOTE]
    for context in _contexts(commands, click.Context(commands, info_name="upshot", **commands.context_settings)):
        lines += [f"## {context.command_path}\n", "```", context.get_help(), "```\n"]
    return "\n".join(lines).rstrip() + "\n"


def _contexts(group: click.Group, above: click.Context) -> Iterator[click.Context]:
    """Every command below a group, in the alphabet's order. Contexts know their parents, as when somebody types the command."""
    for name in sorted(group.list_commands(above)):
        if command := group.get_command(above, name):
            context = click.Context(command, info_name=name, parent=above)
            yield context
            if isinstance(command, click.Group):
                yield from _contexts(command, context)


def http_page() -> str:
    """Every path, with what it does and which problems it may answer."""
    lines = [
        "# HTTP API\n", _NOTE,
        "The running server shows the same with every field at `/docs` and `/redoc`, and as OpenAPI at `/openapi.json`.\n",
        "| method and path | does | answers |", "| --- | --- | --- |",
    ]  # fmt: skip
    document = _application().openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            does = " ".join(operation.get("description", "").split())
            lines.append(f"| `{method.upper()} {path}` | {does} | {', '.join(sorted(operation['responses']))} |")
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """Every kind of problem, and every code of a field."""
    lines = [
        "# Errors\n", _NOTE,
        "Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, `code`, and where fields are",
        "wrong `errors`, each with a JSON `pointer`, a stable `code` and a `message`. A value that was sent is never repeated.\n",
        "| status | code | means |", "| --- | --- | --- |",
    ]  # fmt: skip
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UpshotError)]
    lines += [
        f"| {kind.status} | `{kind.code}` | {kind.title}. |" for kind in sorted(kinds, key=lambda kind: kind.status)
    ]
    lines += ["\n## Codes of fields\n", ", ".join(f"`{code}`" for code in field_codes()) + "."]
    return "\n".join(lines) + "\n"


def field_codes() -> list[str]:
    """The codes that the source gives to faults and rejections, read from its syntax."""
    found: set[str] = set()
    for path in sorted(Path(errors.__file__).parent.rglob("*.py")):
        if "cli" not in path.parts:
            found.update(
                code for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for code in _codes(node)
            )
    return sorted(found)


def _codes(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        values = node.args if name in {"Fault", "Rejection", "_invalid", "_require", "_word"} else []
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
        values = node.value.elts[:1]
    else:
        values = []
    texts = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return [text for text in texts if re.fullmatch("[a-z][a-z_]{2,30}", text)]


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "http.md": http_page,
    "errors.md": errors_page,
}


def _application() -> Any:
    return create_app(Settings(), {}).application


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
