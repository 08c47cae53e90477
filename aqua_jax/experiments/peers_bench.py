"""The same requests through this engine and through others, one after the other, again and again.

Knows: workloads, peers' processes, this project's engine, what the machine can do at most. Does
not know: any peer's interface, which is its runner script's (`configs/peers/`).

A row is a workload in a dtype. All engines load the same random weights, from one folder in
Hugging Face layout, run on the same number of threads and make as many tokens of each prompt,
greedily. A run of each is left out as warm-up; then they take turns, and medians are reported.
The least that the machine needs is the weights read once a step and all products, at the rates
measured in the same row: how far from that everybody is stands beside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aqua_jax.control import errors, types
from aqua_jax.experiments import ceilings, checks, own_engine, peers, settings

_DTYPES = ("float32", "bfloat16")
_FULL, _THIRD, _PAGED = "full", "third", "paged"
_READ_BYTES = 512 * types.MIB
_HOST: dict[str, Any] = {"kind": "host", "bytes": types.GIB}

_Call = Callable[[], peers.Run]


class Shape(NamedTuple):
    """weights: that a token is multiplied by, so without a table that is only looked up."""

    weights: int
    vocab: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PeersBenchmark:
    """The settings.

    write: (name, folder) -> `Shape`; writes random weights in Hugging Face layout unless they
    are there. peers: name -> the python of its environment, where a path that is not there
    stands for a peer that is absent. scripts: name -> its runner script. workloads: rows,
    comma-separated, MODEL-DTYPE; with `-third` at the end memory holds a third of the requests.
    requests: how many, with prompts of prompt_least to prompt_most tokens, evenly spread.
    threads: of every engine; 0: one a core. folder: for weights, kept from run to run.
    """

    model: settings.ModelSettings
    write: Callable[..., Any]
    peers: Mapping[str, str]
    scripts: Mapping[str, str]
    engine: settings.EngineSettings = dataclasses.field(default_factory=settings.EngineSettings)
    workloads: str = "demo-float32"
    requests: int = 16
    prompt_least: int = 16
    prompt_most: int = 128
    output_tokens: int = 64
    repeats: int = 5
    threads: int = 0
    wait_seconds: float = 1200.0
    folder: str = "~/.cache/aqua_jax/peers"

    def __post_init__(self) -> None:
        checks.at_least(
            "config", self, 1, "requests", "prompt_least", "prompt_most", "output_tokens", "repeats"
        )
        checks.at_least("config", self, 0, "threads")
        checks.above("config", self, "wait_seconds")
        if self.prompt_most < self.prompt_least:
            raise errors.ConfigError(
                f"prompt_most is {self.prompt_most}: expected at least prompt_least,"
                f" {self.prompt_least}"
            )
        if unknown := self.peers.keys() - self.scripts.keys():
            raise errors.ConfigError(
                f"peers.{min(unknown)} has no script: set scripts.{min(unknown)}"
            )
        for workload in checks.names(self.workloads):
            Workload.parse(workload)

    @property
    def title(self) -> str:
        """What the rows are."""
        return (
            f"{self.requests} greedy requests at once, prompts of {self.prompt_least} to"
            f" {self.prompt_most} tokens, {self.output_tokens} tokens each, {self.cores} threads"
        )

    @property
    def devices(self) -> list[str]:
        """The first, which computes."""
        return [str(jax.devices()[0])]

    @property
    def cores(self) -> int:
        """Threads of every engine."""
        return self.threads or len(os.sched_getaffinity(0))

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(workload, its figures as `metrics.BENCHMARK` names them), each as it is measured."""
        if self.threads:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.threads])
        for workload in checks.names(self.workloads):
            yield workload, Row(self, Workload.parse(workload)).measure()

    def wanted(self, vocab: int) -> list[peers.Wanted]:
        """The requests: random ids, lengths evenly spread."""
        random = np.random.default_rng(0)
        lengths = np.linspace(self.prompt_least, self.prompt_most, self.requests).astype(int)
        return [
            peers.Wanted(random.integers(1, vocab, length).tolist(), self.output_tokens)
            for length in lengths
        ]


class Workload(NamedTuple):
    """What a row is of. third: memory holds a third of the requests."""

    model: str
    dtype: str
    third: bool

    @classmethod
    def parse(cls, text: str) -> Workload:
        """Of MODEL-DTYPE or MODEL-DTYPE-third. Raises ConfigError."""
        third = text.endswith(f"-{_THIRD}")
        model, _, dtype = text.removesuffix(f"-{_THIRD}").rpartition("-")
        if not model or dtype not in _DTYPES:
            raise errors.ConfigError(
                f"workloads names {text!r}; give MODEL-{_DTYPES[0]} or MODEL-{_DTYPES[1]}, with"
                f" -{_THIRD} behind it for memory that holds a third of the requests"
            )
        return cls(model, dtype, third)


class Row:
    """One workload: everybody who can run it, warm, and then in turn.

    preemptions: of this engine's last run, by its name in the row.
    """

    def __init__(self, benchmark: PeersBenchmark, workload: Workload) -> None:
        self._benchmark = benchmark
        self._workload = workload
        folder = pathlib.Path(benchmark.folder).expanduser() / workload.model
        self._shape: Shape = benchmark.write(workload.model, folder)
        self._folder = folder
        self._wanted = benchmark.wanted(self._shape.vocab)
        self._absent: dict[str, str] = {}
        self.preemptions: dict[str, int] = {}
        self.closing = contextlib.ExitStack()

    def measure(self) -> dict[str, Any]:
        """The row's figures."""
        with self.closing:
            engines = self.own_engines() | self._peers()
            runs: dict[str, list[peers.Run]] = {name: [] for name in engines}
            for turn in range(self._benchmark.repeats + 1):
                for name, run in engines.items():
                    made = None if name in self._absent else self._run(name, run)
                    if made is not None and turn:
                        runs[name].append(made)
        return self._figures({name: made for name, made in runs.items() if made})

    # -- engines ------------------------------------------------------------------------------

    def own_engines(self) -> dict[str, _Call]:
        """This engine, exact and not; where memory is short, in three ways.

        Pages attended where they are, so that all run; sessions paged out and in by turns; and
        with all the memory, to compare with.

        Native linear layers are exact at no cost, so what is not exact is XLA's in one tile.
        """
        calls: dict[str, _Call] = {}
        for name, exact in (("exact", True), ("inexact", False)):
            own = own_engine.OwnEngine(self._experiment(exact), self._wanted)
            self.closing.callback(own.close)
            arms = {name: _FULL}
            if self._workload.third:
                arms = {name: _THIRD, f"{name}_{_PAGED}": _PAGED, f"{name}_{_FULL}": _FULL}
            for key, arm in arms.items():
                calls[key] = functools.partial(self._run_own, key, own, arm)
        return calls

    def _run_own(self, name: str, own: own_engine.OwnEngine, arm: str) -> peers.Run:
        made = own.run(arm)
        self.preemptions[name] = own.preemptions
        return made

    def _experiment(self, exact: bool) -> settings.Experiment:
        engine = self._benchmark.engine
        if not exact:
            engine = dataclasses.replace(engine, exact=False, linear="xla")
        model = dataclasses.replace(
            self._benchmark.model,
            name=self._workload.model,
            path=str(self._folder),
            dtype=self._workload.dtype,
        )
        tokens = engine.page_tokens
        pages = [-(-(len(one.prompt) + one.tokens) // tokens) for one in self._wanted]
        third = max(self._kv_tokens // tokens, *pages) + 1
        return settings.Experiment(
            model=model,
            devices=1,
            engine=engine,
            memory=settings.MemorySettings(
                pool_pages=sum(pages) + 1, tiers={"host": settings.TierSettings(**_HOST)}
            ),
            arm_settings={
                _FULL: {},
                _THIRD: {"memory": {"pool_pages": third, "attend_away": "all"}},
                _PAGED: {"memory": {"pool_pages": third}},
            },
        )

    @property
    def _kv_tokens(self) -> int:
        """That the memory of everybody holds where it is short."""
        return sum(len(one.prompt) + one.tokens for one in self._wanted) // 3

    def _peers(self) -> dict[str, _Call]:
        calls: dict[str, _Call] = {}
        for name, python in self._benchmark.peers.items():
            if not python or not pathlib.Path(python).exists():
                self._absent[name] = f"no python at {python!r}: set peers.{name}"
                continue
            job = {
                "model": str(self._folder),
                "dtype": self._workload.dtype,
                "threads": self._benchmark.cores,
                "kv_tokens": self._kv_tokens if self._workload.third else 0,
                "requests": [one._asdict() for one in self._wanted],
            }
            script = pathlib.Path(self._benchmark.scripts[name])
            wait_seconds = self._benchmark.wait_seconds
            try:
                peer = peers.Peer(python, script, job, wait_seconds=wait_seconds)
            except peers.PeerError as error:
                self._absent[name] = str(error)
                continue
            self.closing.callback(peer.close)
            calls[name] = peer.run
        return calls

    def _run(self, name: str, call: _Call) -> peers.Run | None:
        """A peer that fails is left out from then on, with its words; this engine must not."""
        try:
            return call()
        except peers.PeerError as error:
            self._absent[name] = str(error)
            return None

    # -- figures ------------------------------------------------------------------------------

    def _figures(self, runs: Mapping[str, Sequence[peers.Run]]) -> dict[str, Any]:
        rates = {name: statistics.median(run.rate for run in made) for name, made in runs.items()}
        best = max(rates["exact"], rates["inexact"])
        others = [name for name in rates if name in self._benchmark.peers]
        figures: dict[str, Any] = {
            "tokens_per_second": rates,
            "same_answers": {
                name: _equal(runs["exact"][-1], runs[name][-1]) for name in rates if name != "exact"
            },
        }
        if others:
            figures["over_peer"] = {name: best / rates[name] for name in others}
        if self._workload.third:
            full = max(rates[f"exact_{_FULL}"], rates[f"inexact_{_FULL}"])
            figures["of_full_memory"] = best / full
        figures |= self._limits(rates)
        figures["preempted"] = self.preemptions
        if self._absent:
            figures["absent"] = self._absent
        return figures

    def _limits(self, rates: Mapping[str, float]) -> dict[str, Any]:
        """What the machine could do at most, and how much of it everybody reaches."""
        read_rate = ceilings.read_rate(_READ_BYTES, repeats=self._benchmark.repeats)
        product_rate = ceilings.product_rate(self._workload.dtype, repeats=self._benchmark.repeats)
        weights, batch = self._shape.weights, len(self._wanted)
        nbytes = weights * (2 if self._workload.dtype == "bfloat16" else 4)
        products = 2 * weights / product_rate  # seconds for one token
        prompts = sum(len(one.prompt) for one in self._wanted)
        steps = self._benchmark.output_tokens - 1  # the first token is the prompt's
        seconds = prompts * products + steps * max(nbytes / read_rate, batch * products)
        limit = batch * self._benchmark.output_tokens / seconds
        return {
            "read_bytes_per_second": read_rate,
            "products_per_second": product_rate,
            "limit_tokens_per_second": limit,
            "of_limit": {name: rate / limit for name, rate in rates.items()},
        }


def _equal(ours: peers.Run, theirs: peers.Run) -> float:
    """The share of requests with the same ids from the first to the last."""
    same = [a == b for a, b in zip(ours.tokens, theirs.tokens, strict=True)]
    return sum(same) / len(same)
