"""The seed of a fault test: printed, so that a run's random choices can be made again."""

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """FAULT_SEED, or a new one."""
    chosen = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nseed {chosen} (FAULT_SEED={chosen} makes the same random choices again)")  # noqa: T201
    return chosen
