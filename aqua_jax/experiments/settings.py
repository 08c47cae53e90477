"""What a config file says: frozen values, checked when they are made.

Knows: names, units, ranges. Does not know: flags, files, jax. A config file
returns an `Experiment`; `overrides.py` lays command-line values over it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from aqua_jax.control import errors, types
from aqua_jax.control.policies import base
from aqua_jax.experiments import checks

AUTO = "auto"  # the native one where its library is there, else the one through XLA
MOVERS = (AUTO, "reference", "xla", "ffi")
ATTENTIONS = (AUTO, "xla", "native")
LINEARS = (AUTO, "xla", "native")
PROBES = ("cached", "always", "off")
ATTENDS = tuple(mode.value for mode in types.AttendAway)
TIER_KINDS = ("peer", "host")
DTYPES = ("float32", "bfloat16")
_CHUNK_TOKENS_MIN = 32  # fewer rows run by another kernel, with other bits (`loops/text.py`)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """Requests and when they arrive.

    trace: a file (Azure CSV, Mooncake JSONL, VTC CSV); "": the embedded generator.
    requests: how many; of a trace, a window of so many drawn by `seed`.
    rate: requests a second; 0: `load` times what the machine sustains, measured first.
    calibration_seconds: how long that measurement runs.
    prompt_scale, output_scale: factors on the lengths; prompt_max, output_max: limits in tokens.
    burstiness: coefficient of variation of the generator's gaps, 1 is Poisson.
    tenants: of the generator, how many share the requests evenly; 0: none.
    temperature, top_p: of sampling; temperature 0 is greedy.
    texts: a file, one text a line, whose beginnings are the prompts, in the words of the model's
      tokenizer; "": prompts are random ids.
    """

    trace: str = ""
    requests: int = 128
    rate: float = 0.0
    load: float = 2.0
    calibration_seconds: float = 3.0
    seed: int = 0
    prompt_scale: float = 1 / 32
    output_scale: float = 1 / 2
    prompt_max: int = 256
    output_max: int = 256
    burstiness: float = 1.0
    tenants: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    texts: str = ""

    def __post_init__(self) -> None:
        checks.at_least("workload", self, 1, "requests", "prompt_max", "output_max")
        checks.at_least("workload", self, 0, "rate", "burstiness", "tenants", "temperature")
        if not 0 < self.top_p <= 1:
            raise errors.ConfigError(
                f"workload.top_p is {self.top_p}; give more than 0 and at most 1"
            )
        checks.above(
            "workload", self, "load", "calibration_seconds", "prompt_scale", "output_scale"
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The model. build(name, seed=, path=, dtype=, mesh=) -> a `loops.forward.CausalModel`.

    path: its folder, in Hugging Face layout or as configs/convert.py writes it; `name` and `seed`
    are not used then. "": the shape called `name` with random weights, drawn from `seed`.
    shards: devices over which it is tensor parallel; build's `mesh` is over them.
    """

    build: Callable[..., Any]
    name: str = "demo"
    path: str = ""
    dtype: str = "float32"
    seed: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        checks.at_least("model", self, 1, "shards")
        checks.one_of("model.dtype", self.dtype, DTYPES)

    @property
    def title(self) -> str:
        """What to call it."""
        return self.path or self.name


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Slices. Lengths in tokens; units_max: prompt and output of one session.

    lanes: sessions in a slice. page_tokens: of a page. tile_rows: computed together.
    exact: bits do not depend on batch mates or chunking (`loops/text.py`). linear: what multiplies
    by the weights: xla, native, which is exact too, or auto: native where its library is there.
    chunk_tokens: rows of one prefill program; chunks_max: such programs in a slice.
    steps_max, steps_contended: decode steps of a slice when nobody waits, when somebody does.
    ahead_seconds: a slice is dispatched this long before the one in flight should end.
    early_pages: pages of likely victims copied out early in a slice.
    prefix_reuse: full pages of prompts that begin alike are shared, not computed again.
    """

    lanes: int = 32
    chunk_tokens: int = 64
    chunks_max: int = 2
    page_tokens: int = 16
    units_max: int = 512
    steps_max: int = 8
    steps_contended: int = 4
    tile_rows: int = 32
    exact: bool = True
    linear: str = AUTO
    ahead_seconds: float = 0.004
    early_pages: int = 8
    prefix_reuse: bool = False

    def __post_init__(self) -> None:
        names = [f.name for f in dataclasses.fields(self) if f.type == "int"]
        checks.at_least("engine", self, 1, *(n for n in names if n != "early_pages"))
        checks.at_least("engine", self, 0, "early_pages", "ahead_seconds")
        checks.at_least("engine", self, _CHUNK_TOKENS_MIN, "chunk_tokens")
        checks.one_of("engine.linear", self.linear, LINEARS)
        checks.multiple("engine", self, 16, "tile_rows")
        checks.multiple("engine", self, self.tile_rows, "chunk_tokens")
        checks.multiple("engine", self, self.page_tokens, "units_max")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Memory off the device. kind: peer (the next device) or host (pinned).

    bytes: capacity over all shards. link: of `emulate.links`; "": real speed.
    """

    kind: str
    bytes: int
    link: str = ""

    def __post_init__(self) -> None:
        checks.one_of("memory.tiers.*.kind", self.kind, TIER_KINDS)
        checks.at_least("memory.tiers.*", self, 1, "bytes")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoverFaults:
    """Faults of the mover, rates in 0..1, drawn by seed; for tests of what must not change."""

    seed: int = 0
    fail: float = 0.0
    delay: float = 0.0
    delay_seconds: float = 0.02
    reorder: float = 0.0
    corrupt: float = 0.0

    def __post_init__(self) -> None:
        checks.at_least(
            "memory.faults", self, 0, "fail", "delay", "delay_seconds", "reorder", "corrupt"
        )
        if self.fail + self.delay + self.reorder + self.corrupt > 1:
            raise errors.ConfigError("memory.faults: the rates add up to more than 1")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """The pool and what stands behind it. tiers: name -> tier; peers are used before hosts.

    pool_pages: scratch page included. mover: reference (numpy), xla, ffi (native)
    or auto: ffi where the native library is there, else xla. attention: xla, native
    or auto likewise. transfer_threads, transfer_cores: of the ffi mover on CPU, and
    the cores to pin them to, comma-separated ("": none). probe: the speed of the
    links at start-up: cached (measured once a machine), always or off; the bytes
    that arrive are compared in any case but off. link_floor_gbps: a link below so
    many GB/s in large copies is refused and its tier left out; 0: none is.
    attend_away: whose oldest pages are attended in the tiers: long: of sessions larger
    than the pool, which are refused otherwise; all: of any, so that where memory is short
    more sessions run, and each of their steps reads over the links; off. Needs the native
    library. verify: checksum every copy. faults: of the
    mover, by rate, for tests (`MoverFaults`).
    """

    pool_pages: int = 97
    mover: str = AUTO
    attention: str = AUTO
    transfer_threads: int = 1
    transfer_cores: str = ""
    tiers: Mapping[str, TierSettings] = dataclasses.field(default_factory=dict)
    probe: str = "cached"
    link_floor_gbps: float = 0.1
    attend_away: str = types.AttendAway.OFF.value
    verify: bool = False
    faults: MoverFaults = dataclasses.field(default_factory=MoverFaults)

    def __post_init__(self) -> None:
        checks.one_of("memory.mover", self.mover, MOVERS)
        checks.one_of("memory.attention", self.attention, ATTENTIONS)
        checks.one_of("memory.probe", self.probe, PROBES)
        checks.one_of("memory.attend_away", self.attend_away, ATTENDS)
        checks.at_least("memory", self, 2, "pool_pages")
        checks.at_least("memory", self, 1, "transfer_threads")
        checks.at_least("memory", self, 0, "link_floor_gbps")
        if not all(core.isdecimal() for core in self._core_texts):
            raise errors.ConfigError(
                f"memory.transfer_cores is {self.transfer_cores!r}; give numbers of cores,"
                " comma-separated, e.g. 0,1"
            )
        for name, native in (("mover", "ffi"), ("attention", "native")):
            value = getattr(self, name)
            if self.attends.is_on and value not in (AUTO, native):
                raise errors.ConfigError(
                    f"memory.attend_away={self.attend_away} with memory.{name}={value}: pages are"
                    " attended where they are by native code alone; set"
                    f" memory.{name}={native}, or leave it {AUTO}"
                )
        if self.faults.corrupt and not self.verify:
            raise errors.ConfigError(
                "memory.faults.corrupt without memory.verify would let corrupt bytes through:"
                " set memory.verify=True"
            )

    @property
    def attends(self) -> types.AttendAway:
        """`attend_away` as the control plane takes it."""
        return types.AttendAway(self.attend_away)

    @property
    def cores(self) -> tuple[int, ...]:
        """Those of `transfer_cores`."""
        return tuple(int(core) for core in self._core_texts)

    @property
    def _core_texts(self) -> list[str]:
        return checks.names(self.transfer_cores)

    @property
    def nearest_first(self) -> list[tuple[str, TierSettings]]:
        """The tiers, peers before hosts, by name among themselves."""
        return sorted(
            self.tiers.items(), key=lambda item: (TIER_KINDS.index(item[1].kind), item[0])
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """An emulated link, undilated: seconds = latency_seconds + bytes / bytes_per_second."""

    latency_seconds: float
    bytes_per_second: float

    def __post_init__(self) -> None:
        checks.at_least("emulate.links.*", self, 0, "latency_seconds")
        checks.above("emulate.links.*", self, "bytes_per_second")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmulateSettings:
    """Another machine's times under dilation. dilation 0: no emulation.

    dilation: clock seconds for one emulated second. step_seconds: of one decode
    step; step_unit_seconds: more for each cached unit of the sessions in it;
    prefill_unit_seconds: of one prefill token. page_bytes: what one page stands for.
    step_reads: how often a page attended in place crosses its link in one step: as often
    as the steps that this one stands for.
    links: name -> link, undilated.
    """

    dilation: float = 0.0
    step_seconds: float = 0.0
    step_unit_seconds: float = 0.0
    prefill_unit_seconds: float = 0.0
    page_bytes: int = 0
    step_reads: int = 1
    links: Mapping[str, LinkSettings] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.at_least(
            "emulate", self, 0, "dilation", "step_seconds", "step_unit_seconds",
            "prefill_unit_seconds", "page_bytes",
        )  # fmt: skip
        checks.at_least("emulate", self, 1, "step_reads")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """What the report says.

    baselines: arms that the others are compared with, comma-separated. note: a remark.
    samples: requests whose answers are shown in words; needs a model with a tokenizer.
    derivation: how emulated times follow from a device's figures; said before anything runs.
    """

    baselines: str = "fcfs"
    derivation: str = ""
    note: str = ""
    samples: int = 0

    def __post_init__(self) -> None:
        checks.at_least("report", self, 0, "samples")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A whole config. arm_settings: arm -> nested settings laid over the rest.

    arms: names to run, comma-separated, in this order. devices: CPU devices to make.
    repeats: workload seeds seed, seed + 1, ...; ratios are medians over them.
    """

    model: ModelSettings
    arm_settings: Mapping[str, Mapping[str, Any]]
    arms: str = ""
    seed: int = 0
    devices: int = 2
    repeats: int = 1
    workload: WorkloadSettings = dataclasses.field(default_factory=WorkloadSettings)
    engine: EngineSettings = dataclasses.field(default_factory=EngineSettings)
    memory: MemorySettings = dataclasses.field(default_factory=MemorySettings)
    policy: base.PolicySettings = dataclasses.field(default_factory=base.PolicySettings)
    emulate: EmulateSettings = dataclasses.field(default_factory=EmulateSettings)
    report: ReportSettings = dataclasses.field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        checks.at_least("config", self, 1, "devices", "repeats")
        checks.policy(self.policy.name)
        checks.arms(self.arms, self.arm_names, self.arm_settings)
        for setting, wants in (
            ("workload.texts", bool(self.workload.texts)),
            ("report.samples", self.report.samples > 0),
        ):
            if wants and not self.model.path:
                raise errors.ConfigError(
                    f"{setting} needs words, but a model of random weights has no tokenizer: set"
                    " model.path to a folder that has one"
                )
        checks.sharing(prefix_reuse=self.engine.prefix_reuse, attends=self.memory.attends)
        for name, tier in self.memory.tiers.items():
            if tier.link and not self.emulate.dilation:
                raise errors.ConfigError(
                    f"memory.tiers.{name}.link is {tier.link!r}, but emulate.dilation is 0, no"
                    " emulation: give a dilation above 0, or no link"
                )
            if tier.link and tier.link not in self.emulate.links:
                raise errors.ConfigError(
                    f"memory.tiers.{name}.link is {tier.link!r}"
                    f"{errors.close_match(tier.link, self.emulate.links)}"
                )

    @property
    def arm_names(self) -> list[str]:
        """The arms to run, in order; all when none is selected."""
        return checks.names(self.arms) or list(self.arm_settings)

    @property
    def evidence(self) -> str:
        """What its figures are."""
        return "emulated" if self.emulate.dilation else "measured"
