"""Servers that act together, when one of them is missing: nobody waits, and the others, or all again, are used soon."""

from pathlib import Path
from tempfile import mkdtemp

import pytest
from tests.backends import redis
from tests.cache.asking import FIRST_SECONDS, asked, settled
from tests.faults.reporting import percentile, say
from tests.punctual import in_time, punctual

from upshot.cache import connect
from upshot.cache.tiers import TwoTierCache

pytestmark = pytest.mark.slow


@punctual
async def test_a_paused_primary_is_replaced(tmp_path: Path) -> None:
    """The Sentinels name another, and the cache asks that one; it stays there when the old one wakes up as a replica."""
    with redis.sentinels(Path(mkdtemp(dir=tmp_path))) as group:
        cache = connect(group.url)
        assert isinstance(cache, TwoTierCache)
        await settled(cache)
        paused = group.primary
        paused.pause()
        took = await asked(cache, 4)
        first = await settled(cache)
        paused.resume()
        again = await asked(cache, 3)
        second = await settled(cache)
        say(f"p99 {percentile(took, 0.99):.4f} s, max {max(took):.4f} s, used again after {first:.2f} s")
        say(f"p99 {percentile(again, 0.99):.4f} s, max {max(again):.4f} s, used again after {second:.2f} s")

        await cache.close()

        assert group.primary is not paused
        in_time(max(took + again), FIRST_SECONDS)


@pytest.mark.parametrize("how", ["pause", "kill"])
@punctual
async def test_a_cluster_that_misses_a_node_delays_nobody(tmp_path: Path, how: str) -> None:
    """And is used again when it is whole."""
    with redis.cluster(Path(mkdtemp(dir=tmp_path))) as group:
        cache = connect(group.url)
        assert isinstance(cache, TwoTierCache)
        await settled(cache)
        getattr(group.nodes[1], how)()
        took = await asked(cache, 4)
        state = [await cache.ping(), await cache.ping()]
        if how == "pause":
            group.nodes[1].resume()
        else:
            group.nodes[1].restart()
        back = await settled(cache)
        say(f"p99 {percentile(took, 0.99):.4f} s, max {max(took):.4f} s, then {state}; used again after {back:.2f} s")

        await cache.close()

        in_time(max(took), FIRST_SECONDS)
