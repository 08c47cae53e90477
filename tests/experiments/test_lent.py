"""What is told of a server's lenders."""

from __future__ import annotations

from aqua_jax.experiments import lent
from tests.simulation import small_cluster


def test_a_watch_sees_memory_lent_held_and_called_back():
    run = small_cluster.Run(small_cluster.SPEC, until=1.0)
    server = run.cluster.servers[0]
    watch = lent.Watch(server)
    watch.sample(1.0)
    run.cluster.world.run(8.0)
    watch.sample(8.0)
    (images,) = watch.records().values()
    assert list(images.at_seconds) == [1.0, 8.0]
    assert images.offered_bytes[0] > images.offered_bytes[1]
    assert images.offered_bytes[1] == server.items["images"].lent_bytes
    assert 0 < images.held_bytes[0] <= images.offered_bytes[0]
    assert images.reclaims == 1
    assert images.overdue == 0
    assert len(images.items_seconds) == len(server.items["images"].done_ns) > 0
    assert min(images.items_seconds) > 0


def test_before_it_has_joined_a_lender_has_lent_nothing():
    run = small_cluster.Run(small_cluster.SPEC, until=0.0)
    watch = lent.Watch(run.cluster.servers[1])
    watch.sample(0.0)
    assert list(watch.records()["images"].held_bytes) == [0]
