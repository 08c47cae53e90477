"""Lane states: seating a session, and what each emitted token changes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from aqua_jax.control import types
from aqua_jax.loops import lanes, packing, prompt


def seated(request: types.Request, *, emitted: tuple[int, ...] = (), lane: int = 1) -> lanes.Lanes:
    """Three lanes, one of them seated by way of the host's arrays."""
    session = types.Session(id=1, request=request, arrived_at=0.0, emitted=list(emitted))
    fields = packing.Packing(lanes.shapes(3)._asdict())
    vector, views = fields.host()
    plan = types.LanePlan(lane, session, (), session.known - 1, 0, 1, True)
    lanes.write_seat(views, plan)
    joins = jnp.arange(3) == lane
    return lanes.seat(lanes.empty(3), joins, lanes.Lanes(**fields.unpack(jnp.asarray(vector))))


def test_a_seat_is_the_session_as_the_host_knows_it():
    request = prompt.text_request(
        [5, 6, 7], max_tokens=10, temperature=0.5, top_k=3, top_p=0.9, min_p=0.25,
        seed=2**32 - 2, stop_ids=[4], min_tokens=6, repetition_penalty=1.5,
        presence_penalty=-1.0, frequency_penalty=2.0, logit_bias={3: 1.0, 4: 2.0}, logprobs=0,
    )  # fmt: skip
    state = seated(request, emitted=(8, 9))
    assert [int(field[1]) for field in state[:4]] == [9, 4, 8, lanes.RUNNING]
    assert state.stop_ids[1].tolist() == [4] + [-1] * 15
    assert int(state.stops_from[1]) == 3 + 6, "the first place after min_tokens"
    assert int(state.seeds[1]) == -2
    rest = [0.5, 3, 0.9, 0.25, 1.5, -1.0, 2.0, 2, 1]
    assert np.allclose([float(field[1]) for field in state[7:]], rest)
    assert state.sampling.min_ps is state.min_ps
    assert [*state.shaping[:3]] == [state.repetitions, state.presences, state.frequencies]
    for field in state:
        assert not np.asarray(field[0]).any(), "other lanes keep their state"


def test_tokens_count_down_to_the_length():
    state = seated(prompt.text_request([5], max_tokens=2))
    mask = jnp.asarray([False, True, False])
    state = lanes.emit(state, mask, jnp.asarray([1, 2, 3]), jnp.asarray([1, 1, 1]))
    assert (int(state.token[1]), int(state.position[1]), int(state.remaining[1])) == (2, 1, 1)
    assert state.finished.tolist() == [lanes.RUNNING] * 3
    state = lanes.emit(state, mask, jnp.asarray([1, 2, 3]), jnp.asarray([2, 2, 2]))
    assert state.finished.tolist() == [lanes.RUNNING, lanes.LENGTH, lanes.RUNNING]
    assert state.token.tolist() == [0, 2, 0]


def test_a_stop_id_wins_over_the_length():
    state = seated(prompt.text_request([5], max_tokens=1, stop_ids=[3, 2]))
    mask = jnp.asarray([False, True, False])
    state = lanes.emit(state, mask, jnp.asarray([3, 2, 3]), jnp.asarray([1, 1, 1]))
    assert state.finished.tolist() == [lanes.RUNNING, lanes.STOP, lanes.RUNNING]
