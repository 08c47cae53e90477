"""The order of the steps from logits to tokens, and that nobody pays for what nobody needs."""

from __future__ import annotations

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aqua_jax.control import types
from aqua_jax.loops import choosing, lanes, logprobs, notes, packing, prompt
from tests.loops import decoding_oracle
from tests.parity import processors

VOCAB, ROWS = 32, 4
RUNS = np.asarray([True, True, True, False])
LOGITS = np.random.default_rng(5).normal(size=(ROWS, VOCAB)).astype(np.float32) * 3

EVERYTHING = {
    "temperature": 0.8, "top_k": 6, "top_p": 0.9, "min_p": 0.01, "seed": 3, "logprobs": 4,
    "repetition_penalty": 1.4, "presence_penalty": 0.5, "frequency_penalty": 0.25,
    "logit_bias": {1: 4.0, 2: 4.0, 20: -5.0}, "min_tokens": 5, "stop_ids": [1, 9],
}  # fmt: skip


_note = jax.jit(notes.note)


@jax.jit
def _choose(logits, positions, runs, state, noted):
    asking = choosing.asks(positions, runs, state)
    return choosing.choose(logits, asking, lambda: choosing.Rows(positions, state, lambda: noted))


def seated(*options: dict) -> tuple[jax.Array, lanes.Lanes, notes.Notes]:
    """Positions, lanes and notes of sessions with the same tokens, one a row."""
    fields = packing.Packing(lanes.shapes(ROWS)._asdict())
    vector, views = fields.host()
    noted = notes.empty(ROWS, VOCAB)
    for row, each in enumerate(options):
        request = prompt.text_request([2, 3], max_tokens=9, **each)
        session = types.Session(id=row, request=request, arrived_at=0.0, emitted=[5, 5, 6])
        lanes.write_seat(views, types.LanePlan(row, session, (), 4, 0, 1, True))
        for packed in notes.pack(row, session, vocab=VOCAB):
            noted = _note(noted, jnp.asarray(packed))
    state = lanes.Lanes(**fields.unpack(jnp.asarray(vector)))
    return state.position + 1, state, noted


def choose(*options: dict) -> choosing.Chosen:
    positions, state, noted = seated(*options)
    return _choose(jnp.asarray(LOGITS), positions, jnp.asarray(RUNS), state, noted)


def test_everything_at_once_follows_the_order():
    found = set()
    payload = prompt.text_request([2, 3], max_tokens=9, **EVERYTHING).payload
    shaped = decoding_oracle.shaped(LOGITS[0], payload, [5, 5, 6])
    likely, margin = decoding_oracle.probabilities(shaped, payload)
    assert margin > 1e-3, "no token is on the edge"
    for seed in range(40):
        chosen = choose({**EVERYTHING, "seed": seed}, {}, EVERYTHING, {})
        token = int(chosen.tokens[0])
        found.add(token)
        scored = logprobs.read(np.asarray(chosen.scores[0]), token, 4)
        assert abs(scored.logprob - decoding_oracle.logprobs(LOGITS[0])[token]) < 1e-5
        assert [id for id, _ in scored.top] == np.argsort(-LOGITS[0])[:4].tolist()
    assert found == set(np.flatnonzero(likely > 0.02)) | (found & set(np.flatnonzero(likely)))
    assert not found & {1, 9}, "stop ids are held back, biased or not"


CASES = json.loads(processors.PATH.read_text())


@pytest.mark.parametrize("case", CASES, ids=[str(case["seed"]) for case in CASES])
def test_tokens_are_chosen_as_by_the_processors_of_transformers(case):
    """Made by `tests/parity/make_processors.py`."""
    expected = np.asarray([-np.inf if s is None else s for s in case["scores"]])
    logits, output = processors.logits(case), case["output"]
    options = {"logprobs": 0, **case["options"]}
    payload = prompt.text_request(case["prompt"], max_tokens=9, **options).payload
    shaped = decoding_oracle.shaped(logits, payload, output)
    tokens = _many(logits, case["prompt"], output, options)
    if not payload.temperature:
        np.testing.assert_allclose(shaped, expected, atol=2e-6)
        assert set(tokens) == {expected.argmax()}
        return
    likely = np.exp(expected - expected.max())
    likely /= likely.sum()
    np.testing.assert_allclose(decoding_oracle.probabilities(shaped, payload)[0], likely, atol=1e-5)
    found = np.bincount(tokens, minlength=likely.size) / tokens.size
    # Five standard deviations; what is not kept is never drawn.
    assert (abs(found - likely) <= 5 * np.sqrt(likely * (1 - likely) / tokens.size)).all()


def _many(logits: np.ndarray, ids: list[int], output: list[int], options: dict) -> np.ndarray:
    """Tokens of a session that is drawn with 1,024 seeds."""
    fields = packing.Packing(lanes.shapes(1)._asdict())
    vector, views = fields.host()
    request = prompt.text_request(ids, max_tokens=9, **options)
    session = types.Session(id=0, request=request, arrived_at=0.0, emitted=output)
    lanes.write_seat(views, types.LanePlan(0, session, (), session.known - 1, 0, 1, True))
    noted = notes.empty(1, logits.size)
    for packed in notes.pack(0, session, vocab=logits.size):
        noted = _note(noted, jnp.asarray(packed))
    state = lanes.Lanes(**fields.unpack(jnp.asarray(vector)))
    rows = [jnp.asarray(logits)[None], state.position + 1, jnp.asarray([True]), state, noted]
    many = jax.tree.map(lambda one: jnp.repeat(one, 1024, axis=0), rows)
    many[3] = many[3]._replace(seeds=jnp.arange(1024, dtype=jnp.int32))
    return np.asarray(_choose(*many).tokens)


def test_greedy_takes_the_best_of_the_shaped_logits():
    greedy = {**EVERYTHING, "temperature": 0.0}
    chosen = choose({}, greedy, {**greedy, "logprobs": None}, {})
    payload = prompt.text_request([2, 3], max_tokens=9, **greedy).payload
    assert int(chosen.tokens[0]) == LOGITS[0].argmax()
    for row in (1, 2):
        shaped = decoding_oracle.shaped(LOGITS[row], payload, [5, 5, 6])
        assert int(chosen.tokens[row]) == shaped.argmax()
    assert np.asarray(chosen.scores).any(axis=1).tolist() == [False, True, False, False]


def test_a_row_that_does_not_run_asks_for_nothing():
    alone = choose({}, {"temperature": 1.0, "seed": 4}, {}, {})
    beside = choose({}, {"temperature": 1.0, "seed": 4}, {}, EVERYTHING)
    np.testing.assert_array_equal(alone.tokens[:3], beside.tokens[:3])
    assert not np.asarray(beside.scores).any()


def test_without_options_only_the_argmax_is_computed():
    """All else is in the branch of one condition, which runs when a row asks for something."""
    positions, state, noted = seated({}, {}, {}, {})
    operands = (jnp.asarray(LOGITS), positions, jnp.asarray(RUNS), state, noted)
    text = _choose.lower(*operands).compile().as_text()
    entry = text[text.index("\nENTRY ") :]
    assert len(re.findall(r" conditional\(", entry)) == 1
    assert len(re.findall(r" conditional\(", text)) > 5, "the others are in its branch"
    for costly in (" while(", " custom-call(", "exponential("):
        assert costly in text
        assert costly not in entry
    whole = f"s32[{ROWS},{VOCAB}]"  # what was seen, which only penalties read
    readers = [line for line in entry.splitlines()[2:] if whole in line]
    assert len(readers) == 2
    assert " parameter(" in readers[0]
    assert " tuple(" in readers[1], "handed to the branch, not read"
