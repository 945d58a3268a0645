"""Stores are waited for as long as a busy machine needs: how long they are waited for otherwise is the subject of other tests."""

import pytest

from upshot import redisserver
from upshot.operations import answers, experiments, snapshots


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a second, or a Redis that takes a twentieth of one, is no outage here. Parts that are away say so at once
    (`stubs.py`).
    """
    for module in (answers, experiments, snapshots):
        monkeypatch.setattr(module, "PATIENCE", 60.0)
    monkeypatch.setattr(redisserver, "SECONDS", 60.0)
