"""What the package brings along, and what it shows."""

import subprocess
import sys

import pytest

import upshot.sdk

SERVER = (
    "fastapi",
    "starlette",
    "pydantic",
    "msgspec",
    "numpy",
    "scipy",
    "sqlalchemy",
    "duckdb",
    "uvicorn",
    "click",
    "rich",
)


def loaded(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(found.stdout.split())


def test_the_package_loads_the_core_and_nothing_of_the_server() -> None:
    """Not even httpx, whose command line would come along; that comes with the first client. A loaded server would be seen."""
    ours = loaded("import upshot.sdk, upshot.sdk.testing")
    with_client = loaded("from upshot.sdk import ExperimentClient\nExperimentClient('http://127.0.0.1:9', 'k')")
    foreign = {name for name in ours if name.startswith("upshot.") and not name.startswith("upshot.sdk")}

    assert not ours & {*SERVER, "httpx", "openfeature"}
    assert "httpx" in with_client
    assert not with_client & {"fastapi", "pydantic", "msgspec", "numpy", "sqlalchemy", "duckdb"}
    assert foreign == {
        f"upshot.{name}"
        for name in ("allocation", "assignment", "clock", "contexts", "errors", "flags", "identifiers", "layers", "patterns",
                     "snapshot", "targeting")
    }  # fmt: skip
    assert loaded("import upshot.http.app") & set(SERVER)


def test_importing_the_package_is_quick() -> None:
    """A quarter of a second at most, of processor time, the best of three."""
    program = "import time\nt = time.process_time()\nimport upshot.sdk\nprint(time.process_time() - t)"
    taken = [
        float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]

    assert min(taken) <= 0.25


def test_what_is_public_is_listed() -> None:
    """Sorted, and all of it is there."""
    assert upshot.sdk.__all__ == sorted(upshot.sdk.__all__)
    assert all(hasattr(upshot.sdk, name) for name in upshot.sdk.__all__)


def test_a_client_says_nothing_of_its_key() -> None:
    """Not in its representation, nor in that of its settings."""
    client = upshot.sdk.ExperimentClient("http://127.0.0.1:9", "upk_secret_of_a_test")

    assert "upk_secret" not in repr(client) + repr(client._settings) + repr(vars(client))
    with pytest.raises(AttributeError):
        client.key  # type: ignore[attr-defined]  # noqa: B018
