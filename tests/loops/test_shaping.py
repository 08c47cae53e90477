"""Bias, penalties and stop ids held back, against plain numpy; rows that ask for nothing."""

from __future__ import annotations

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies

from aqua_jax.control import types
from aqua_jax.loops import lanes, notes, packing, prompt, shaping
from tests.loops import decoding_oracle

VOCAB, ROWS = 24, 8
_ids = strategies.integers(0, VOCAB - 1)
_penalties = strategies.floats(-2, 2, width=32)


@strategies.composite
def sessions(draw: strategies.DrawFn) -> types.Session:
    """A session that asks for any of it, or for nothing."""
    optional = {
        "repetition_penalty": strategies.floats(0.25, 4, width=32),
        "presence_penalty": _penalties,
        "frequency_penalty": _penalties,
        "logit_bias": strategies.dictionaries(_ids, strategies.floats(-100, 100, width=32)),
        "min_tokens": strategies.integers(0, 9),
        "stop_ids": strategies.lists(_ids, max_size=16),
    }
    options = draw(strategies.fixed_dictionaries({}, optional=optional))
    ids = draw(strategies.lists(_ids, min_size=1, max_size=12))
    request = prompt.text_request(ids, max_tokens=9, **options)
    emitted = draw(strategies.lists(_ids, max_size=8))
    return types.Session(id=1, request=request, arrived_at=0.0, emitted=emitted)


@jax.jit
def _shape(logits, positions, state, noted):
    wanted = state.shaping.wanted(positions)
    return shaping.shape(logits, positions, state.shaping, wanted, lambda: noted), wanted


_note = jax.jit(notes.note)


def shape(logits: np.ndarray, seated: list[types.Session]) -> tuple[np.ndarray, np.ndarray]:
    """Row i as session i asks; which rows asked for anything."""
    fields = packing.Packing(lanes.shapes(ROWS)._asdict())
    vector, views = fields.host()
    noted = notes.empty(ROWS, VOCAB)
    for row, session in enumerate(seated):
        plan = types.LanePlan(row, session, (), session.known - 1, 0, 1, True)
        lanes.write_seat(views, plan)
        for packed in notes.pack(row, session, vocab=VOCAB):
            noted = _note(noted, jnp.asarray(packed))
    state = lanes.Lanes(**fields.unpack(jnp.asarray(vector)))
    made, wanted = _shape(jnp.asarray(logits), state.position + 1, state, noted)
    return np.asarray(made), np.asarray(wanted)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    strategies.lists(sessions(), min_size=ROWS, max_size=ROWS), strategies.integers(0, 1000)
)
def test_logits_are_shaped_as_plain_numpy_shapes_them(seated, seed):
    logits = np.random.default_rng(seed).normal(size=(ROWS, VOCAB)).astype(np.float32) * 6
    made, wanted = shape(logits, seated)
    for row, session in enumerate(seated):
        payload = session.request.payload
        expected = decoding_oracle.shaped(logits[row], payload, session.emitted)
        np.testing.assert_allclose(made[row], expected, rtol=1e-5, atol=1e-5)
        if not wanted[row]:
            np.testing.assert_array_equal(made[row], logits[row])
            assert not payload.penalised
            assert not payload.logit_bias
            assert len(session.emitted) >= payload.min_tokens


def test_a_row_keeps_its_bits_in_any_company():
    logits = np.random.default_rng(0).normal(size=(ROWS, VOCAB)).astype(np.float32)
    logits[0, :3] = -0.0, 1e-30, 1e30
    plain = types.Session(1, prompt.text_request([1, 2], max_tokens=9), 0.0, emitted=[3])
    busy = types.Session(
        2,
        prompt.text_request(
            [1, 2], max_tokens=9, repetition_penalty=1.7, presence_penalty=0.3, min_tokens=4,
            frequency_penalty=0.1, logit_bias={1: 0.7, 5: -3.0}, stop_ids=[2],
        ),
        0.0,
        emitted=[3, 3],
    )  # fmt: skip
    alone, _ = shape(logits, [plain] * ROWS)
    np.testing.assert_array_equal(alone.view(np.int32), logits.view(np.int32))
    mixed, _ = shape(logits, [plain, busy] * (ROWS // 2))
    np.testing.assert_array_equal(mixed[::2].view(np.int32), logits[::2].view(np.int32))
    crowded, _ = shape(logits, [busy] * ROWS)
    np.testing.assert_array_equal(mixed[1::2], crowded[1::2])
