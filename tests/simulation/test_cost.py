"""What slices cost: sums checked unit by unit, the figures of the main pairs, JSON."""

from __future__ import annotations

import csv
import random
import statistics

import pytest

from aqua_jax.control import errors, types
from aqua_jax.simulation import cost, hardware, shapes

NONE = cost.SliceCost(
    dispatch_ps=0,
    program_ps=0,
    chunk_ps=0,
    row_ps=0,
    row_context_ps=0,
    step_ps=0,
    lane_ps=0,
    context_ps=0,
    overlaps=True,
    fuses=False,
)
SESSION = types.Session(1, types.Request(prompt_units=1, steps_max=1), 0.0)


def batch(*lanes):
    """A batch of lanes (first, prefill, steps)."""
    plans = tuple(
        types.LanePlan(lane, SESSION, [], first, prefill, steps, joins=False)
        for lane, (first, prefill, steps) in enumerate(lanes)
    )
    return types.Batch(plans, max((steps for _, _, steps in lanes), default=0))


def counted_one_by_one(lanes, chunk_units):
    rows = row_context = chunk_context = lane_steps = step_context = 0
    for first, prefill, steps in lanes:
        for row in range(prefill):
            rows += 1
            row_context += first + row + 1
        for _ in range(0, prefill, chunk_units):
            chunk_context += first + prefill
        for step in range(steps):
            lane_steps += 1
            step_context += first + prefill + step + 1
    chunks = len(range(0, rows, chunk_units))
    steps = max((steps for _, _, steps in lanes), default=0)
    return cost.Work(chunks, chunk_context, rows, row_context, steps, lane_steps, step_context)


def test_work_is_what_counting_one_by_one_gives():
    draws = random.Random(5)
    for _ in range(200):
        chunk = 1 + draws.randrange(8)
        lanes = [
            (draws.randrange(50), draws.randrange(3) * draws.randrange(9), draws.randrange(5))
            for _ in range(draws.randrange(6))
        ]
        assert cost.count(batch(*lanes), chunk) == counted_one_by_one(lanes, chunk)


def test_nothing_to_do_costs_a_dispatch():
    alone = cost.SliceCost.from_json(NONE.to_json() | {"dispatch_ps": 1001}, where="")
    assert alone.nanoseconds(batch(), 16) == 2  # rounded up


@pytest.mark.parametrize(
    ("field", "picoseconds"),
    [
        ("dispatch_ps", 1),
        ("program_ps", 3 + 2),  # 3 chunks, 2 steps
        ("chunk_ps", 3),
        ("row_ps", 9),
        ("row_context_ps", (4 + 5 + 6) + (1 + 2 + 3 + 4 + 5 + 6)),
        ("step_ps", 2),
        ("lane_ps", 2 + 1),
        # Prefill reads 6 once and 6 twice; steps read 7 and 8, and 11.
        ("context_ps", 6 + 2 * 6 + 7 + 8 + 11),
    ],
)
@pytest.mark.parametrize("overlaps", [True, False])
def test_each_coefficient_multiplies_its_count(field, picoseconds, overlaps):
    one = cost.SliceCost.from_json(NONE.to_json() | {field: 1, "overlaps": overlaps}, where="")
    work = cost.count(batch((3, 3, 2), (0, 6, 0), (10, 0, 1)), 4)
    assert one.picoseconds(work) == picoseconds


def test_memory_and_arithmetic_overlap_or_add():
    fields = NONE.to_json() | {"step_ps": 5000, "lane_ps": 2000}
    for lanes, longer, both in ((1, 5, 7), (2, 5, 9), (4, 8, 13)):
        plan = batch(*[(0, 0, 1)] * lanes)
        assert cost.SliceCost.from_json(fields, where="").nanoseconds(plan, 8) == longer
        adding = cost.SliceCost.from_json(fields | {"overlaps": False}, where="")
        assert adding.nanoseconds(plan, 8) == both


@pytest.mark.parametrize("overlaps", [True, False])
@pytest.mark.parametrize(
    ("lanes", "both"),
    [
        (((3, 4, 2),), 1),  # a chunk, two steps
        (((0, 12, 0), (10, 0, 1)), 1),  # three chunks, a step
        (((0, 8, 0), (10, 0, 2), (20, 0, 2)), 2),
        (((0, 8, 0),), 0),
        (((5, 0, 3),), 0),
    ],
)
def test_fused_programs_carry_a_chunk_and_a_step(lanes, both, overlaps):
    work = cost.count(batch(*lanes), 4)

    def cost_of(**fields):
        given = NONE.to_json() | {"fuses": True, "overlaps": overlaps} | fields
        return cost.SliceCost.from_json(given, where="").picoseconds(work)

    assert cost_of(program_ps=7) == 7 * (work.chunks + work.steps - both)
    # The weights are read once for both; all else is what it is apart.
    assert cost_of(chunk_ps=5, step_ps=5) == 5 * (work.chunks + work.steps - both)
    for field, count in (
        ("row_ps", work.rows),
        ("row_context_ps", work.row_context),
        ("lane_ps", work.lane_steps),
        ("context_ps", work.chunk_context + work.step_context),
    ):
        # Times 6, so that a third or a half of it is whole.
        assert cost_of(**{field: 6}) == 6 * count


def test_arithmetic_of_rows_hides_behind_the_reads_of_a_fused_step():
    fields = NONE.to_json() | {"fuses": True, "chunk_ps": 100, "step_ps": 100}
    work = cost.count(batch((0, 4, 0), *[(0, 0, 1)] * 10), 4)
    hidden = cost.SliceCost.from_json(fields | {"row_ps": 10, "lane_ps": 6}, where="")
    assert hidden.picoseconds(work) == 100
    bound = cost.SliceCost.from_json(fields | {"row_ps": 20, "lane_ps": 6}, where="")
    assert bound.picoseconds(work) == 4 * 20 + 10 * 6
    apart = cost.SliceCost.from_json(bound.to_json() | {"fuses": False}, where="")
    assert apart.picoseconds(work) == 100 + 100


def test_a_34b_on_an_h100_prefills_beside_decoding_for_less_than_apart():
    """A chunk of 512 is bound by arithmetic, a step of 30 lanes by memory: it hides behind it."""
    device, shape = hardware.load("H100"), shapes.text("CodeLlama-34B")
    fused = cost.text_cost(device, shape)
    apart = cost.text_cost(device, shape, fuses=False)
    mixed = batch((0, 512, 0), *[(1000, 0, 1)] * 30)
    saved = apart.nanoseconds(mixed, 512) - fused.nanoseconds(mixed, 512)
    step_reads = fused.step_ps + 30 * 1001 * fused.context_ps
    assert saved == pytest.approx((step_reads - 30 * fused.lane_ps) / 1000, abs=2)


def figures(device, name, shards=1):
    """(ms of a step with little KV, us of a prefill token) of the pair."""
    coefficients = cost.text_cost(hardware.load(device), shapes.text(name), shards=shards)
    step = coefficients.nanoseconds(batch((100, 0, 1)), 512)
    prefill = coefficients.nanoseconds(batch((0, 2048, 0)), 2048)
    return step / 1e6, prefill / 2048 / 1e3


@pytest.mark.parametrize(
    ("device", "name", "shards", "step_ms", "token_us"),
    [
        ("H100", "CodeLlama-34B", 1, 25.3, 140),
        ("H100", "Llama-3.1-8B", 1, 6.1, 33.6),
        ("H100", "Llama-3.1-70B", 2, 29.0, 154),
        ("H100", "OPT-30B", 1, 22.5, 124),
        ("H200", "CodeLlama-34B", 1, 17.7, 140),
        ("A100-80G", "CodeLlama-34B", 1, 41.5, 443),
        ("A10G", "Llama-2-7B", 1, 28.3, 400),
    ],
)
def test_the_main_pairs(device, name, shards, step_ms, token_us):
    step, token = figures(device, name, shards)
    assert step == pytest.approx(step_ms, rel=0.01)
    assert token == pytest.approx(token_us, rel=0.01)


def test_prefill_of_a_34b_nearly_fills_an_h100_at_6_requests_a_second():
    """The Azure conversation trace has 1155 prompt tokens in the mean."""
    coefficients = cost.text_cost(hardware.load("H100"), shapes.text("CodeLlama-34B"))
    share = 6 * coefficients.nanoseconds(batch((0, 1155, 0)), 512) / 1e9
    assert share == pytest.approx(0.95, abs=0.02)


def test_a_small_chunk_costs_the_weights():
    coefficients = cost.text_cost(hardware.load("H100"), shapes.text("CodeLlama-34B"))
    sixteen = coefficients.nanoseconds(batch((0, 16, 0)), 16)
    assert sixteen == pytest.approx(coefficients.step_ps / 1e3 + 100_000, rel=0.01)


def test_shards_divide_the_work_and_add_reductions():
    device, shape = hardware.load("H100"), shapes.text("Llama-3.1-70B")
    one, two, four = (cost.text_cost(device, shape, shards=n) for n in (1, 2, 4))
    assert one.program_ps == 0
    assert two.step_ps == pytest.approx(one.step_ps / 2, rel=1e-6)
    assert device.nvlink is not None
    # Two reductions a layer, each of 2 (n - 1) hops.
    assert two.program_ps == 2 * 80 * 2 * device.nvlink.latency_ns * 1000
    assert four.program_ps == 3 * two.program_ps
    # Of a row's 16 KiB, each of 160 reductions sends as much again over the link.
    sent_ps = 160 * 16384 / device.nvlink.bytes_per_second * 1e12
    assert two.row_ps == pytest.approx(one.row_ps / 2 + sent_ps, rel=1e-6)
    with pytest.raises(errors.ConfigError, match="expected a divisor of its 64 heads"):
        cost.text_cost(device, shape, shards=3)


def test_without_nvlink_shards_reduce_over_pcie():
    device, shape = hardware.load("A10G"), shapes.text("Llama-2-7B")
    two = cost.text_cost(device, shape, shards=2)
    assert two.program_ps == 2 * 32 * 2 * device.pcie.latency_ns * 1000


def test_a_batch_of_images_takes_a_latency_and_more_for_each():
    device, shape = hardware.load("A100-80G"), shapes.items("Stable-Diffusion-1.5")
    coefficients = cost.item_cost(device, shape)
    for images in (1, 20):
        took = coefficients.nanoseconds(batch(*[(1, 0, shape.steps)] * images), 1)
        stated = shape.latency_ns + images * shape.item_ns
        assert took == pytest.approx(stated + device.dispatch_ns, rel=1e-6)
    faster = cost.item_cost(hardware.load("H100"), shape)
    assert faster.lane_ps == pytest.approx(coefficients.lane_ps * 312 / 989, rel=1e-6)


def test_json_there_and_back():
    given = cost.text_cost(hardware.load("H100"), shapes.text("OPT-30B"))
    assert cost.SliceCost.from_json(given.to_json(), where="f.json") == given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_ps": -1}, "f.json: row_ps is -1; expected a number at least 0"),
        ({"row_ps": 1.5}, "f.json: row_ps is 1.5; expected a whole number"),
        ({"rows_ps": 1}, "f.json: unknown field 'rows_ps' (did you mean 'row_ps'?)"),
        ({"overlaps": 1}, "f.json: overlaps is 1; expected true or false"),
        ({"fuses": 0}, "f.json: fuses is 0; expected true or false"),
    ],
)
def test_wrong_json_is_refused(change, message):
    with pytest.raises(errors.ConfigError) as caught:
        cost.SliceCost.from_json(NONE.to_json() | change, where="f.json")
    assert str(caught.value) == message


def test_times_are_whole_and_the_same_everywhere():
    """A digest of many times: a float anywhere in the sums would differ between machines."""
    coefficients = cost.text_cost(hardware.load("H100"), shapes.text("CodeLlama-34B"))
    draws = random.Random(11)
    total = 0
    for _ in range(50):
        lanes = [(draws.randrange(4000), draws.randrange(2) * 300, 4) for _ in range(20)]
        took = coefficients.nanoseconds(batch(*lanes), 512)
        assert type(took) is int
        total = (total * 31 + took) % (1 << 61)
    assert total == 347700836008946533


def test_an_a10g_decodes_llama_2_as_fast_as_was_measured(traces_dir):
    """The overload of VTC's artifact: all the time as many requests of 256 + 256 as fit.

    A step brings lanes / 256 requests to their end, so as many prefills of 256 come with it.
    """
    with (traces_dir / "vtc_synthetic_overload_fcfs.csv").open() as file:
        rows = list(csv.DictReader(file))
    decoding = [float(row["latency_s"]) - float(row["first_token_s"]) for row in rows]
    ends = [float(row["req_time_s"]) + float(row["latency_s"]) for row in rows]
    lanes = round(sum(decoding) / (max(ends) - min(ends)))
    coefficients = cost.text_cost(hardware.load("A10G"), shapes.text("Llama-2-7B"))
    step = coefficients.nanoseconds(batch(*[(256 + 128, 0, 1)] * lanes), 512)
    prefill = coefficients.nanoseconds(batch((0, 256, 0)), 512)
    predicted = (step + prefill * lanes / 256) / 1e9
    assert predicted == pytest.approx(statistics.median(decoding) / 255, rel=0.05)


@pytest.mark.parametrize(
    ("lanes", "prompt", "output", "measured", "rel"),
    [
        (64, 128, 128, 3486, 0.10),
        (32, 128, 2048, 1459, 0.10),
        (16, 2048, 2048, 592, 0.10),
        # Nearly all prefill, where those kernels reach two thirds of nominal and not a half.
        (32, 2048, 128, 529, 0.25),
    ],
)
def test_an_a100_decodes_llama_as_fast_as_is_published(lanes, prompt, output, measured, rel):
    """Output tokens a second of LLaMA 7B, fp16, one A100: TensorRT-LLM, "Performance" page."""
    coefficients = cost.text_cost(hardware.load("A100-80G"), shapes.text("Llama-2-7B"))
    prefill = coefficients.nanoseconds(batch(*[(0, prompt, 0)] * lanes), 4096)
    steps = coefficients.nanoseconds(batch(*[(prompt, 0, output)] * lanes), 4096)
    assert lanes * output / ((prefill + steps) / 1e9) == pytest.approx(measured, rel=rel)
