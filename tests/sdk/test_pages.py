"""The quickstart of the page does what it says when it is pasted, and keys are made with scopes that there are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sdk.test_client import until
from tests.sdk.test_faults import counted, create
from tests.servers import TOKEN, running

from upshot.access import Scope
from upshot.sdk import ExperimentClient

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "sdk-python.md"
TWO = re.compile(r"scopes `?([a-z:]+)`? and `?([a-z:]+)`?")


@pytest.mark.slow
def test_the_quickstart_works_when_it_is_pasted(tmp_path: Path) -> None:
    """Ten lines beside the imports at most, against a server on another port."""
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    (tmp_path / "upshot-data").mkdir()
    (tmp_path / "upshot-data" / "token").write_text(f"{TOKEN}\n")
    with running(tmp_path / "server") as server:
        create(server)
        pasted = program.replace("http://127.0.0.1:8000", server.url)
        done = subprocess.run(
            [sys.executable, "-c", pasted], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
        )

        assert len([line for line in program.splitlines() if line]) <= 10
        assert done.stdout.split()[1:] == ["assigned", "None"]
        assert until(lambda: counted(server) == (1, 1))


def test_the_scopes_of_a_key_are_those_that_there_are() -> None:
    """On the pages, and where the client says what key it takes."""
    texts = [page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")] + [ExperimentClient.__doc__ or ""]

    named = [set(pair) for text in texts for pair in TWO.findall(text)]

    assert len(named) >= 4
    assert all(pair == {Scope.ASSIGN, Scope.EVENTS} for pair in named)
