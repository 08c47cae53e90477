"""What whoever measures is told, in the order in which it happened."""

from __future__ import annotations

from aqua_jax.control import copying, types
from aqua_jax.control.policies import base
from aqua_jax.engine import engine, observer
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench as benches


class Recorder(observer.Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.slices: list[tuple[types.Batch, int, float, float]] = []
        self.copies: list[tuple[copying.Copy, types.Completion, float, float]] = []
        self.decisions: list[float] = []

    def slice_done(
        self, batch: types.Batch, chunks: int, started_at: float, finished_at: float
    ) -> None:
        self.slices.append((batch, chunks, started_at, finished_at))

    def copy_done(
        self, copy: copying.Copy, completion: types.Completion, started_at: float, at: float
    ) -> None:
        self.copies.append((copy, completion, started_at, at))

    def decided(self, host_seconds: float) -> None:
        self.decisions.append(host_seconds)


def test_every_slice_and_copy_is_reported_once_with_its_times() -> None:
    bench = benches.Bench(
        benches.Scenario(
            policy=base.PolicySettings(quantum_tokens=4), pool_pages=7, tier_pages=(64,)
        )
    )
    recorder = Recorder()
    loop = engine.Engine(
        bench.controller, bench.mover, bench.runner, bench.clock, observer=recorder
    )
    for seed in range(3):
        loop.submit(toy.request([seed] * 12, 12))
    while not loop.idle:
        loop.step()
    ends = [finished_at for *_, finished_at in recorder.slices]
    assert ends == sorted(ends)
    for (_, _, _, before), (batch, chunks, started_at, finished_at) in zip(
        recorder.slices, recorder.slices[1:], strict=False
    ):
        assert before <= started_at < finished_at  # one after the other on the device
        assert chunks == -(-batch.prefill_units // 8)
    assert len(recorder.decisions) == len(recorder.slices)
    assert min(recorder.decisions) > 0
    out = [copy for copy, *_ in recorder.copies if copy.direction == "out"]
    assert sum(len(copy.moves) for copy in out) == bench.controller.memory.moved.out["peer"] > 0
    assert all(started_at < at for *_, started_at, at in recorder.copies)


def test_the_base_class_keeps_quiet() -> None:
    quiet = observer.Observer()
    quiet.slice_done(types.Batch((), 0), 0, 0.0, 1.0)
    quiet.copy_done(copying.Copy("in", "peer", (), ()), types.Completion(1, 0, 0.0), 0.0, 1.0)
    quiet.decided(0.1)
