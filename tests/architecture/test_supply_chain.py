"""What is shipped with us: every requirement is pinned with hashes, known holes are below our floors, and no secret is in the
tree."""

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKED = sorted((ROOT / "requirements").glob("*.txt"))
# Holes that the reliability notes name, and the versions without them.
FLOORS = {
    "starlette": "1.3.1",
    "joserfc": "1.6.8",
    "cryptography": "46",
    "redis": "8",
    "urllib3": "2.6",
    "sqlalchemy": "2.1",
}
ABSENT = {"python-jose", "pyjwt", "passlib", "pycrypto"}  # what others in our place are known for
_SECRET = re.compile(
    r"-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----\n[A-Za-z0-9+/=]{20}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}"
    r"|upk_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}|xox[baprs]-[0-9A-Za-z-]{10,}|AIza[0-9A-Za-z_-]{35}|whsec_[A-Za-z0-9+/=]{32,}"
)
_ASSIGNED = re.compile(r"(?i)(?:secret|password|token|api_?key)\w*[\"']?\s*[:=]\s*[\"']([A-Za-z0-9+/=_-]{24,})[\"']")


def pins(path: Path) -> dict[str, str]:
    """The versions that a file locks."""
    return {
        found[1].lower(): found[2]
        for found in re.finditer(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def unpinned(text: str) -> list[str]:
    """Requirements without an exact version or without a hash."""
    blocks = re.split(r"\n(?=\S)", text.replace("\\\n", " "))
    return [block for block in blocks if block.strip() and not ("==" in block and "--hash=sha256:" in block)]


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_every_requirement_is_pinned_with_hashes(path: Path) -> None:
    """In every file that somebody installs from; a line that is not is found."""
    text = path.read_text(encoding="utf-8")

    assert unpinned(text) == []
    assert unpinned(text + "\nrequests>=2\n") == ["requests>=2\n"]
    assert unpinned(text + "\nrequests==2.0\n") == ["requests==2.0\n"]


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_known_holes_are_below_what_is_locked(path: Path) -> None:
    """And libraries that others were broken by are not there."""
    locked = pins(path)
    low = {
        name: locked[name]
        for name, floor in FLOORS.items()
        if name in locked and Version(locked[name]) < Version(floor)
    }

    assert low == {}
    if path.name != "dev.txt":
        assert ABSENT & locked.keys() == set()


def test_the_sqlite_of_the_event_loop_has_one_writer_or_is_repaired() -> None:
    """Versions before 3.51.3 can corrupt a WAL file under several writers; ours has one, whatever the version."""
    source = (ROOT / "src/upshot/database/sqlitefile.py").read_text(encoding="utf-8")

    assert "pool_size=1,\n        max_overflow=0" in source
    assert tuple(map(int, apsw.sqlite_lib_version().split(".")[:3])) >= (3, 51, 3)


@pytest.mark.slow
def test_the_bill_of_materials_names_all_that_is_shipped(tmp_path: Path) -> None:
    """As CycloneDX, one component per locked requirement of the container, with its version and hashes."""
    target = tmp_path / "sbom.json"
    tool = Path(sys.executable).with_name("cyclonedx-py")

    subprocess.run([tool, "requirements", ROOT / "requirements/container.txt", "--output-file", target], check=True)

    bill = json.loads(target.read_text(encoding="utf-8"))
    listed = {part["name"].lower(): part["version"] for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert listed == pins(ROOT / "requirements/container.txt")


def entropy(text: str) -> float:
    """Bits per letter."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def secrets_in(text: str) -> Iterator[str]:
    """What looks like a secret that works somewhere."""
    yield from (found[0] for found in _SECRET.finditer(text))
    yield from (found[1] for found in _ASSIGNED.finditer(text) if entropy(found[1]) > 4.2)


def test_no_secret_is_in_the_tree() -> None:
    """Of the forms that scanners know, and of random texts that are given to something called a secret; tests have words."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    texts = [
        path
        for name in listed
        if (path := ROOT / name).suffix in {".py", ".md", ".yaml", ".toml", ".json", ".sh", ".js", ""}
    ]
    found = {
        str(path.relative_to(ROOT)): secrets
        for path in texts
        if path.is_file() and "tests" not in path.relative_to(ROOT).parts
        and (secrets := list(secrets_in(path.read_text(encoding="utf-8", errors="ignore"))))
    }  # fmt: skip

    assert found == {}
    assert list(secrets_in("KEY = 'upk_" + "a" * 10 + "_" + "b" * 38 + "'"))
    assert list(secrets_in('password = "kR8vX2qLw0ZtN5yBfJ3hM7pD1sGcV9aE"'))
