"""This engine as a peer: all tokens of all requests, the same under every arm."""

from __future__ import annotations

from aqua_jax.experiments import own_engine, peers, settings
from models import build as models


def build(name, *, seed, path, dtype, mesh):
    return models.causal(name, seed=seed, dtype=dtype, mesh=mesh)


def test_runs_give_every_token_and_the_same_ones():
    wanted = [peers.Wanted(list(range(1, 2 + 3 * i)), 12) for i in range(4)]
    experiment = settings.Experiment(
        model=settings.ModelSettings(build=build, name="tiny"),
        engine=settings.EngineSettings(
            lanes=16, chunk_tokens=32, units_max=64, tile_rows=16, page_tokens=8
        ),
        memory=settings.MemorySettings(
            pool_pages=17, tiers={"host": settings.TierSettings(kind="host", bytes=1 << 20)}
        ),
        arm_settings={"full": {}, "short": {"memory": {"pool_pages": 6}}},
    )
    own = own_engine.OwnEngine(experiment, wanted)
    try:
        full, short = own.run("full"), own.run("short")
        assert own.preemptions > 0
        assert own.run("full").tokens == full.tokens == short.tokens
        assert [len(tokens) for tokens in full.tokens] == [12] * 4
    finally:
        own.close()
