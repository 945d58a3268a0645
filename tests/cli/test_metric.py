"""`upshot metric`: definitions from files and back, with a server and without one."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import upshot
from tests.servers import TOKEN, running

DEFINITION: dict[str, Any] = {
    "key": "größe", "kind": "sum", "event_type": "order", "value": "total", "window": "7d", "name": "Größe", "role": None,
}  # fmt: skip


def written(folder: Path, content: Any) -> str:
    """The name of a file with that content, as JSON unless it is a text."""
    path = folder / "metric.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path.name


@pytest.mark.slow
@pytest.mark.parametrize("served", [True, False])
def test_a_definition_goes_in_and_comes_out(tmp_path: Path, *, served: bool) -> None:
    """A file makes a key or its next version, whole; what `show` prints can be defined again and changes nothing."""
    told: list[str] = []

    def metric(*arguments: str) -> str:
        done = upshot("metric", *arguments, *told, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def loop() -> None:
        assert metric("list") == "there are none\n"
        assert metric("define", written(tmp_path, DEFINITION)) == "größe is at version 1\n"
        changed = {"key": "größe", "kind": "sum", "event_types": ["order", "refund"], "description": "d"}
        assert metric("define", written(tmp_path, changed)) == "größe is at version 2\n"
        shown = metric("show", "größe")
        found = json.loads(shown)
        assert {name: found[name] for name in changed} == changed
        assert found.keys() == changed.keys() | {"version", "created_at", "archived_at"}
        assert metric("define", written(tmp_path, shown)) == "größe is at version 2\n"
        assert metric("define", written(tmp_path, {"event_type": "a"})) == "a is at version 1\n"
        assert metric("define", written(tmp_path, {"event_type": "a", "name": "A"})) == "a is at version 2\n"
        assert metric("list") == "a\t2\tconversion\tA\ngröße\t2\tsum\n"
        assert metric("list", "--search", "röße") == "größe\t2\tsum\n"
        assert metric("archive", "größe") == "größe is archived\n"
        assert metric("list") == "a\t2\tconversion\tA\n"
        first = json.loads(metric("show", "größe", "--version", "1"))
        assert first["archived_at"] is not None
        assert {name: first[name] for name in DEFINITION if name != "role"} == {
            name: value for name, value in DEFINITION.items() if name != "role"
        }

    if served:
        with running(tmp_path / "data") as started:
            told += ["--url", started.url, "--token", TOKEN]
            loop()
    else:
        told += ["--data-dir", "data"]
        loop()


@pytest.mark.parametrize(
    ("arguments", "content", "code", "named"),
    [
        (["show", "nothing"], None, 1, "There is no such metric."),
        (["archive", "nothing"], None, 1, "There is no such metric."),
        (["define", "metric.json"], {"key": "a"}, 1, "/event_type"),
        (["define", "metric.json"], {"key": "a/b", "event_type": "c"}, 1, "/key"),
        (["define", "metric.json"], {"key": "a", "event_type": "b", "sql": 1}, 1, "/sql"),
        (["define", "metric.json"], [], 2, "metric.json holds no JSON object"),
        (["define", "metric.json"], "{", 2, "metric.json is not JSON"),
        (["define", "metric.json"], None, 2, "metric.json"),
        (["define"], None, 2, "FILE"),
        (["show"], None, 2, "KEY"),
        (["show", "a", "--version", "0"], None, 2, "--version"),
        (["unheard-of"], None, 2, "unheard-of"),
        (["list", "--url", "http://127.0.0.1:9"], None, 1, "cannot be reached"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_and_an_exit_code(
    tmp_path: Path, arguments: list[str], content: Any, code: int, named: str
) -> None:
    """2 for a wrong call, 1 for what the server refuses."""
    if content is not None:
        written(tmp_path, content)

    done = upshot("metric", *arguments, cwd=tmp_path)

    assert done.returncode == code
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_a_list_of_many_is_whole(tmp_path: Path) -> None:
    """Whatever the size of the server's pages."""
    with running(tmp_path / "data") as started, started.client() as client:
        for number in range(201):
            body = {"event_type": f"event-{number:03}"}
            assert client.post("/metric-definitions", json=body).status_code == 201
        done = upshot("metric", "list", "--url", started.url, "--token", TOKEN, cwd=tmp_path)

    keys = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert keys == [f"event-{number:03}" for number in reversed(range(201))]
