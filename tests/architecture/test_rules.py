"""Rules of the code that no linter knows; each is shown to fail on code that breaks it."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs import generate

from upshot import control, eventstore

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "upshot"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "migrations" not in path.parts)
LONGEST = 300
POOR_NAMES = re.compile(r"utils?|helpers?|common|manager|service|base|impl|misc", re.IGNORECASE)
AMBIENT = {"now", "utcnow", "today", "time", "uuid4", "token_urlsafe", "token_hex", "urandom"}
CORE = [path for path in FILES if path.parent == SOURCE or path.parent.name in {"statistics", "webhooks", "diagnosis"}]
SHELL = {
    "environment.py",
    "outbound.py",
    "backends.py",
    "worker.py",
    "telemetry.py",
    "export.py",
    "tabular.py",
    "groupcommit.py",
    "singleflight.py",
    "clock.py",
    "__main__.py",
}


def calls(tree: ast.AST) -> Iterator[str]:
    """The names of all functions and methods that are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def ambient_calls(source: str) -> list[str]:
    """Calls that read time or randomness from the machine."""
    return sorted(set(calls(ast.parse(source))) & AMBIENT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_has_at_most_three_hundred_lines(path: Path) -> None:
    """A crowded room is redrawn."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_names_are_nouns_of_the_field(path: Path) -> None:
    """No file, class or function is called after what it is not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = [path.stem, *(node.name for node in ast.walk(tree) if isinstance(node, kinds))]

    assert [name for name in names if any(POOR_NAMES.fullmatch(word) for word in name.split("_"))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_public_name_says_what_it_is(path: Path) -> None:
    """Modules, public classes and public functions have docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    public = [node for node in ast.iter_child_nodes(tree) if isinstance(node, kinds) and not node.name.startswith("_")]

    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_reads_no_time_and_no_randomness(path: Path) -> None:
    """They are arguments; clock.py alone asks the machine."""
    if path.name not in SHELL:
        assert ambient_calls(path.read_text(encoding="utf-8")) == []


def test_ambient_calls_are_found() -> None:
    """The check above can fail."""
    assert ambient_calls("import datetime, uuid\nx = datetime.datetime.now()\ny = uuid.uuid4()") == ["now", "uuid4"]


def test_only_the_stores_commit() -> None:
    """A transaction ends where it began: in the store, at the end of the operation's block."""
    committing = {
        path.parent.name
        for path in FILES
        for text in [path.read_text(encoding="utf-8")]
        if re.search(r"\.commit\(|\"COMMIT\"|(?<!provider)\.begin\(", text)
    }

    assert committing <= {"control", "database", "relational", "embedded", "eventqueue", "upshot"}
    assert [p.name for p in CORE if re.search(r"\.commit\(|\"COMMIT\"", p.read_text(encoding="utf-8"))] == ["export.py"]


@pytest.mark.parametrize(
    "contract",
    [
        control.ReadTransaction,
        control.Transaction,
        control.Accounts,
        control.Hooks,
        control.Metrics,
        control.Answers,
        control.ControlStore,
        eventstore.EventStore,
    ],
)
def test_the_client_comes_first_in_every_store_method(contract: type) -> None:
    """Positionally; what has none speaks of all clients at once (the relay) or of nobody's data."""
    nobodys = {
        "ping",
        "close",
        "outbox",
        "relayed",
        "expose",
        "owner",
        "clients",
        "take_deliveries",
        "forget_deliveries",
        "forget_answers",
        "part",
    }
    nobodys |= {"linked_since", "lease", "running", "refresh", "maintain", "report_progress", "complete_to"}
    methods = {
        name: method for name, method in inspect.getmembers(contract, inspect.isfunction) if not name.startswith("_")
    }

    for name in set(methods) - nobodys:
        assert list(inspect.signature(methods[name]).parameters)[1] == "client", name


@pytest.mark.parametrize("name", generate.PAGES)
def test_reference_pages_are_those_of_the_code(name: str) -> None:
    """A setting, command, path or error cannot land without its documentation: run `make docs`."""
    assert (generate.FOLDER / name).read_text(encoding="utf-8") == generate.PAGES[name]()


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of the Markdown pages names a file."""
    broken = [
        (str(page.relative_to(ROOT)), link)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]

    assert broken == []


def test_every_decision_names_its_check_and_is_listed() -> None:
    """A rule exists when a check fails."""
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")

    for page in folder.glob("0*.md"):
        assert "**Enforced by**" in page.read_text(encoding="utf-8")
        assert page.name in listed


def test_every_recommendation_is_documented() -> None:
    """The rule table of the code and that of the page have the same rows."""
    rules = re.findall(r'Decision\("([a-z_]+)"', (SOURCE / "decision.py").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")

    assert set(rules) == set(re.findall(r"^\| `([a-z_]+)` \| (?!means)", page.partition("recommends")[2], re.MULTILINE))
