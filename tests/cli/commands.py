"""Run a command in a process of its own, forked from one that has imported everything once: starting anew takes two seconds."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from upshot.cli import COMMANDS

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("UPSHOT_")}
SECONDS = 120

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload([f"upshot.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()])


def upshot(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        said = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        process = _forking.Process(target=_run, args=(arguments, str(cwd), CLEAN | environment, *said))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(["upshot", *arguments], SECONDS)
        out, err = (Path(name).read_text(encoding="utf-8") for name in said)
        return subprocess.CompletedProcess(["upshot", *arguments], process.exitcode, out, err)


def _run(arguments: tuple[str, ...], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, out), (2, err)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
    sys.argv = ["upshot", *arguments]
    from upshot.cli import main

    main()
