"""This project's engine as one of the peers: the same requests, all at once, until all are done.

Knows: a warm machine, engines on it. Does not know: other engines, what is compared.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Sequence

import jax

from aqua_jax.control import errors
from aqua_jax.experiments import data_path, machine, overrides, peers, settings
from aqua_jax.loops import prompt


class OwnEngine:
    """A machine on the first jax device; every run is a fresh engine on its warm programs.

    preemptions: of the last run. Raises ConfigError and NativeError when made. `close` releases it.
    """

    def __init__(self, experiment: settings.Experiment, wanted: Sequence[peers.Wanted]) -> None:
        self._arms = {name: overrides.arm(experiment, name) for name in experiment.arm_names}
        self._requests = [prompt.text_request(one.prompt, max_tokens=one.tokens) for one in wanted]
        arms = list(self._arms.values())
        path = data_path.resolve(arms, jax.devices()[0].platform)
        self.preemptions = 0
        self._machine = machine.Machine(experiment, arms, path)
        self._machine.warm_up()
        self._machine.check_links()

    def run(self, arm: str) -> peers.Run:
        """All requests once, under one of the experiment's arms."""
        engine = self._machine.start(self._arms[arm]).engine
        gc.collect()
        gc.freeze()  # as an arm does: else one dispatch pays for looking at everything
        with contextlib.closing(engine.mover):
            begin = time.perf_counter()
            try:
                streams = [engine.submit(request) for request in self._requests]
                while not engine.idle:
                    engine.step()
                seconds = time.perf_counter() - begin
            finally:
                gc.unfreeze()
        tokens = [[int(token) for token in stream.read()] for stream in streams]
        self.preemptions = engine.controller.counters.preemptions
        for stream, made, request in zip(streams, tokens, self._requests, strict=True):
            if len(made) != request.steps_max:
                raise errors.InternalError(
                    f"request {stream.id} got {len(made)} of {request.steps_max} tokens and ended"
                    f" with {stream.reason!r}"
                ) from stream.error
        return peers.Run(seconds, tokens)

    def close(self) -> None:
        """Releases devices' memory and threads."""
        self._machine.close()
