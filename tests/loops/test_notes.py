"""Notes of lanes: what the program writes is what the session has seen, and no other lane's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import types
from aqua_jax.loops import notes, prompt

VOCAB, LANES = 3000, 3

_note = jax.jit(notes.note)


def session(prompt_ids: list[int], emitted: list[int], **options: object) -> types.Session:
    request = prompt.text_request(prompt_ids, max_tokens=5000, **options)
    return types.Session(id=1, request=request, arrived_at=0.0, emitted=emitted)


def noted(*sessions: types.Session, lane: int = 1) -> notes.Notes:
    """The sessions one after the other in one lane, on notes that hold something else."""
    state = notes.Notes(*(array + 5 for array in notes.empty(LANES, VOCAB)))
    for each in sessions:
        for packed in notes.pack(lane, each, vocab=VOCAB):
            state = _note(state, jnp.asarray(packed))
    return state


@pytest.mark.parametrize("known", [1, 40, 5000])
def test_a_session_is_noted_in_as_many_calls_as_its_tokens_need(known):
    rng = np.random.default_rng(known)
    ids = rng.integers(0, VOCAB, known).tolist()
    split = known // 2 + 1
    who = session(ids[:split], ids[split:], presence_penalty=0.5)
    calls = len(list(notes.pack(1, who, vocab=VOCAB)))
    assert calls == -(-len(set(ids)) // notes.CHUNK_TOKENS)

    other = session([7, 8, 9], [7], repetition_penalty=2.0)
    state = noted(other, who)
    seen = np.asarray(state.seen)
    expected = np.bincount(ids[split:], minlength=VOCAB)
    np.testing.assert_array_equal(notes.counts(seen[1]), expected)
    in_prompt = np.isin(np.arange(VOCAB), ids[:split])
    np.testing.assert_array_equal((seen[1] & notes.IN_PROMPT) != 0, in_prompt)
    assert (seen[[0, 2]] == 5).all(), "other lanes keep theirs"


def test_biases_are_noted_without_tokens():
    who = session([1, 2], [3], logit_bias={5: -1.5, 2999: 2.0})
    assert len(list(notes.pack(0, who, vocab=VOCAB))) == 1
    state = noted(who, lane=2)
    assert state.bias_ids[2, :2].tolist() == [5, 2999]
    assert state.bias_values[2, :2].tolist() == [-1.5, 2.0]
    assert not state.seen[2].any(), "no penalty reads it"
    assert (np.asarray(state.bias_values[:2]) == 5).all()


def test_nothing_is_noted_of_sessions_that_need_no_notes():
    options = {"temperature": 1.0, "top_k": 4, "min_tokens": 3, "logprobs": 2}
    assert not list(notes.pack(0, session([1], [2], **options), vocab=VOCAB))


def test_emitted_tokens_are_counted():
    state = noted(session([4, 5], [5], presence_penalty=1.0))
    for _ in range(2):
        mask = jnp.asarray([False, True, False])
        state = notes.count(state, mask, jnp.asarray([4, 4, 4], jnp.int32))
    found = np.asarray(state.seen)
    assert notes.counts(found[1])[[4, 5, 6]].tolist() == [2, 1, 0]
    assert found[1, 4] & notes.IN_PROMPT
    assert (found[[0, 2]] == 5).all()


def test_the_operands_of_a_call_stay_small():
    assert notes.operands().size * 4 < 12_000


def test_warming_up_forgets_what_lane_0_has_seen():
    state = notes.Notes(*(array + 5 for array in notes.empty(LANES, VOCAB)))
    state = _note(state, jnp.asarray(notes.pack_nothing(vocab=VOCAB)))
    assert not state.seen[0].any()
    assert (np.asarray(state.seen[1:]) == 5).all()
