"""Every family against what `transformers` said of the same weights, kept in tests/golden/parity.

Logits are compared at every position of the prompt and of 64 greedy tokens: the largest difference
over the row's largest magnitude. `make parity` runs both sides live.
"""

from __future__ import annotations

import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.loops import native_attention, text
from models import decoder
from tests.memory import parts
from tests.parity import cases, golden, ours

BYTES_MAX = 5_000_000
# Past it 95 % of the cases have their first near tie, so that tokens say something.
TELLING_TOKENS = 16

RUNS = [
    pytest.param(
        case,
        attention,
        id=f"{case.name}-{attention}",
        marks=() if attention == case.quick else pytest.mark.long,
    )
    for case in cases.CASES
    for attention in text.ATTENTIONS
]


@pytest.mark.parametrize(("case", "attention"), RUNS)
def test_logits_tokens_and_bits(case, attention):
    wanted = golden.read(case.golden)
    model = ours.load(case.name, wanted.config)
    if attention == "native":
        skip_unless_native_can(model)
    found = ours.compare(model, wanted, attention)
    assert found.error <= ours.RELATIVE_ERROR_MAX
    assert found.tokens >= found.near_tie
    assert found.same_bits


def test_every_case_has_its_golden_and_they_are_small():
    paths = list(cases.GOLDENS.iterdir())
    goldens = {path for path in paths if path.suffix == ".npz"}
    assert goldens == {case.golden for case in cases.CASES}
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)
    assert sum(path.stat().st_size for path in paths) < BYTES_MAX


def test_goldens_are_of_their_cases_and_tell():
    goldens = [(case, golden.read(case.golden)) for case in cases.CASES]
    stale = [case.name for case, read in goldens if read.case != case.text]
    assert not stale, f"make them again: python -m tests.parity.make_goldens {' '.join(stale)}"
    told = [read.near_tie > TELLING_TOKENS for _, read in goldens]
    assert np.mean(told) >= 0.95
    for case, read in goldens:
        assert len(set(read.tokens.tolist())) > 5, f"{case.name} runs in a circle"
        assert len(read.prompt) > (case.fields.get("sliding_window") or 0), case.name


def test_other_weights_are_told():
    """All tensors drawn anew: the comparison fails."""
    case = cases.CASES[0]
    wanted = golden.read(case.golden)
    found = ours.compare(ours.load(f"{case.name}_other", wanted.config), wanted, case.quick)
    assert found.error > 100 * ours.RELATIVE_ERROR_MAX
    assert not found.agrees


def skip_unless_native_can(model: decoder.CausalDecoder) -> None:
    if parts.NO_COMPILER:
        pytest.skip(parts.NO_COMPILER)
    try:
        native_attention.check(model.facts)
    except errors.ConfigError as error:
        pytest.skip(str(error))
