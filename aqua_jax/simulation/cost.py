"""What a slice costs on a device: whole picoseconds for each thing that it does.

Knows: batches as counts, devices and models as data. Does not know: copies,
policy, whose lanes these are. Sums are of ints, so a time is the same on every
machine; floats meet only where coefficients are derived, by single products
and quotients that IEEE 754 fixes.

A slice is prefill, then steps, each a number of programs:

    slice   = dispatch + prefill + steps
    prefill = chunks * program + longer(chunks * weights read + KV read,
                                        rows * row + row_context * attended unit)
    steps   = steps * program + longer(steps * weights read + KV read,
                                       lane_steps * row)

where longer(memory, compute) is their maximum on a device whose arithmetic
hides its reads (a roofline) and their sum on one where it does not. It is taken
over the whole slice: exact unless memory binds in some of its steps and
compute in others.

Where programs fuse, one carries a chunk and a step of every lane (as vLLM V1
and Sarathi-Serve, OSDI'24, run them), and the weights are read once for both.
Of c chunks and s steps min(c, s) programs do, and the rest is of one kind:

    slice   = dispatch + fused + rest
    fused   = n * program + longer(n * weights read + KV read of both,
                                   arithmetic of both)
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from aqua_jax.control import errors, types
from aqua_jax.simulation import hardware as hardwares
from aqua_jax.simulation import shapes, strict_json

_PICOSECONDS = 1_000_000_000_000  # of a second


class Work(NamedTuple):
    """What a slice does.

    chunks: prefill programs. chunk_context: cached units that they read, over all programs.
    rows: prefill rows. row_context: units that rows attend to, over all rows, each its own among
    them. steps: of the slice, which are of its longest lane. lane_steps: rows of all steps.
    step_context: units that these attend to, likewise.
    """

    chunks: int
    chunk_context: int
    rows: int
    row_context: int
    steps: int
    lane_steps: int
    step_context: int


def count(batch: types.Batch, chunk_units: int) -> Work:
    """The work of a batch whose prefill programs take `chunk_units` rows each.

    Row i of a prefill from unit `first` attends to first + i + 1 units, and so does step i from
    the end of the prefill: both are sums of an arithmetic series. A lane's prefill reads its
    context once for each program that it would fill alone.
    """
    rows = row_context = chunk_context = lane_steps = step_context = 0
    for _, _, _, first, prefill, steps, _ in batch.lanes:
        if prefill:
            rows += prefill
            row_context += prefill * first + prefill * (prefill + 1) // 2
            first += prefill
            chunk_context += -(-prefill // chunk_units) * first
        if steps:
            lane_steps += steps
            step_context += steps * first + steps * (steps + 1) // 2
    chunks = -(-rows // chunk_units)
    return Work(chunks, chunk_context, rows, row_context, batch.steps, lane_steps, step_context)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SliceCost:
    """Picoseconds for each count of `Work`; see the module's text.

    dispatch_ps: of the slice. program_ps: of each chunk and step, beside all else (launches,
    latency of reductions between shards). chunk_ps, step_ps: reading the weights for one.
    context_ps: reading one cached unit. row_ps, lane_ps: the arithmetic of a prefill row and of
    a lane's step. row_context_ps: that of a prefill row with one unit it attends to.
    overlaps: memory and arithmetic take the longer of both, else their sum. fuses: a chunk and a
    step are one program where a slice has both, else they are two.
    """

    dispatch_ps: int
    program_ps: int
    chunk_ps: int
    row_ps: int
    row_context_ps: int
    step_ps: int
    lane_ps: int
    context_ps: int
    overlaps: bool
    fuses: bool

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name not in ("overlaps", "fuses"):
                strict_json.above(self, field.name, open_end=False)

    def nanoseconds(self, batch: types.Batch, chunk_units: int) -> int:
        """The slice's time, rounded up."""
        return -(-self.picoseconds(count(batch, chunk_units)) // 1000)

    def picoseconds(self, work: Work) -> int:
        """The time of that work in one dispatch."""
        both = min(work.chunks, work.steps) if self.fuses else 0
        total = self.dispatch_ps
        if both:
            total += self._programs_ps(work, both, both)
        if work.chunks > both:
            total += self._programs_ps(work, work.chunks - both, 0)
        if work.steps > both:
            total += self._programs_ps(work, 0, work.steps - both)
        return total

    def _programs_ps(self, work: Work, chunks: int, steps: int) -> int:
        """The time of programs that carry so many of the work's chunks, of its steps, or of both.

        With an even part of what chunks and steps do: each division is whole where all are taken.
        """
        memory = max(chunks * self.chunk_ps, steps * self.step_ps)
        compute = 0
        if chunks:
            memory += work.chunk_context * self.context_ps * chunks // work.chunks
            rows = work.rows * self.row_ps + work.row_context * self.row_context_ps
            compute += rows * chunks // work.chunks
        if steps:
            memory += work.step_context * self.context_ps * steps // work.steps
            compute += work.lane_steps * self.lane_ps * steps // work.steps
        longer = max(memory, compute) if self.overlaps else memory + compute
        return max(chunks, steps) * self.program_ps + longer

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return strict_json.dump(self)

    @classmethod
    def from_json(cls, value: Any, *, where: str) -> SliceCost:
        """Raises ConfigError that names `where` (a file) and the field that is wrong."""
        return strict_json.build(cls, value, where=where)


def text_cost(
    hardware: hardwares.Hardware, shape: shapes.TextShape, *, shards: int = 1, fuses: bool = True
) -> SliceCost:
    """The roofline of a decoder on `shards` devices of a kind, tensor-parallel.

    fuses: as engines on GPUs run it; the programs of this project's own loops do not.

    A program reads all weights; a row is 2 flops for each parameter, and 4 for each unit that
    it attends to in each head dimension of each layer (scores and values); rates are nominal
    times the stated efficiencies, and shards divide all of it. Shards reduce the hidden state
    twice a layer by a ring: 2 (n - 1) latencies of their link for each program, and
    2 (n - 1) / n of a row's bytes for each row. These bytes count as arithmetic: where a step is
    bound by memory they are left out (64 lanes of a 70B on 2 H100: 0.5 of 29 ms).
    Devices without NVLink reduce over PCIe.
    """
    if shards < 1 or shape.heads % shards:
        raise errors.ConfigError(
            f"{shape.name} on {shards} devices; expected a divisor of its {shape.heads} heads"
        )
    bytes_rate = hardware.memory_bytes_per_second * hardware.memory_efficiency * shards
    flops_rate = hardware.flops_per_second * hardware.compute_efficiency * shards
    weights_ps = _ps(shape.weight_bytes, bytes_rate)
    link = hardware.nvlink or hardware.pcie
    hops = 2 * (shards - 1)
    reductions = 2 * shape.layers
    wire_bytes = reductions * shape.hidden * shape.dtype_bytes * hops / shards
    row_ps = _ps(2 * shape.parameters, flops_rate) + _ps(wire_bytes, link.bytes_per_second)
    attended_flops = 4 * shape.layers * shape.heads * shape.head_dim
    return SliceCost(
        dispatch_ps=hardware.dispatch_ns * 1000,
        program_ps=reductions * hops * link.latency_ns * 1000,
        chunk_ps=weights_ps,
        row_ps=row_ps,
        row_context_ps=_ps(attended_flops, flops_rate),
        step_ps=weights_ps,
        lane_ps=row_ps,
        context_ps=_ps(shape.kv_token_bytes, bytes_rate),
        overlaps=True,
        fuses=fuses,
    )


def item_cost(hardware: hardwares.Hardware, shape: shapes.ItemShape) -> SliceCost:
    """An image or audio model: a batch is a latency, more for each item, spread over its steps.

    The stated seconds are of another device: scaled by arithmetic, as these models are bound by
    it. Prefill (a prompt's encoding) is part of the seconds and costs nothing by itself.
    """
    measured = hardwares.load(shape.measured_on)
    there = measured.flops_per_second * measured.compute_efficiency
    here = hardware.flops_per_second * hardware.compute_efficiency
    scale = there / here / shape.steps
    return SliceCost(
        dispatch_ps=hardware.dispatch_ns * 1000,
        program_ps=0,
        chunk_ps=0,
        row_ps=0,
        row_context_ps=0,
        step_ps=round(shape.latency_ns * 1000 * scale),
        lane_ps=round(shape.item_ns * 1000 * scale),
        context_ps=0,
        overlaps=False,
        fuses=False,
    )


def _ps(amount: float, rate: float) -> int:
    """Picoseconds of that amount at `rate` a second."""
    return round(amount * _PICOSECONDS / rate)
