"""The frozen reference cases, handed to every test that asks for a ``case``."""

import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).parents[3] / "vectors" / "statistics_cases.json"


def cases_of(methods: tuple[str, ...]) -> list[dict[str, Any]]:
    """The frozen cases of these methods, in file order."""
    cases: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    chosen = [case for case in cases if case["method"] in methods]
    assert {case["method"] for case in chosen} == set(methods), f"a method of {methods} has no case"
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``case`` once per frozen case of the methods its module's COVERED names."""
    if "case" in metafunc.fixturenames:
        cases = cases_of(metafunc.module.COVERED[metafunc.function.__name__])
        metafunc.parametrize("case", cases, ids=[case["id"] for case in cases])
