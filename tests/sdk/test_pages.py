"""The quickstart of the page does what it says when it is pasted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sdk.test_client import until
from tests.sdk.test_faults import counted, create
from tests.servers import TOKEN, running

PAGE = Path(__file__).parents[2] / "docs" / "sdk-python.md"


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
