"""The SDK for JavaScript and the published OpenFeature providers, run by Node against a real server."""

import gzip
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.backends import program
from tests.backends.daemon import ran
from tests.servers import TOKEN, RunningServer

FOLDER = Path(__file__).parents[2] / "sdks" / "js"
LARGEST = 5 * 1024

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the SDK after it was built, with what its tests need."""
    program("Node", "apt-get install nodejs npm (Node 18 or newer)", "npm")
    ran("Node", run("node", "--version").strip().removeprefix("v"))
    run("npm", "ci", "--no-audit", "--no-fund")
    run("npm", "run", "build")
    return FOLDER


def run(*command: str, **environment: str) -> str:
    """What a command says; the test fails with it when it fails."""
    done = subprocess.run(
        command, cwd=FOLDER, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(server: RunningServer) -> Mapping[str, str]:
    """Where the tests of JavaScript find the server, and with what."""
    with server.client() as api:
        made = api.post("/api-keys", json={"name": "js", "scopes": ["assign", "events:write"]})
    return {"UPSHOT_URL": server.url, "UPSHOT_KEY": made.json()["key"], "UPSHOT_ADMIN": TOKEN}


def test_the_sdk_is_small(built: Path) -> None:
    """At most 5 kB gzipped, in one file without dependencies."""
    bundle = (built / "dist" / "upshot.js").read_bytes()

    assert len(gzip.compress(bundle, 9)) <= LARGEST
    assert b"import" not in bundle.partition(b"export")[0]


@pytest.mark.parametrize("name", ["vectors", "client", "openfeature"])
def test_what_is_shown_in_node(built: Path, place: Mapping[str, str], name: str) -> None:
    """Golden vectors; the client with and without a server; OpenFeature's providers for server and browser."""
    assert (built / "dist").is_dir()
    told = run("node", "--test", "--test-reporter=tap", f"test/{name}.test.mjs", **place)

    assert "\n# fail 0\n" in told
    assert "\n# skipped 0\n" in told
    assert "\n# pass 0\n" not in told
