"""The cases in which chosen tokens are compared with transformers' logits processors.

Knows: options, tokens, the logits that both sides draw alike. Does not know: either implementation.
"""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np

PATH = pathlib.Path(__file__).parents[1] / "golden" / "parity" / "processors.json"
VOCAB = 24

_SHAPED: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.6},
    {"logit_bias": [[3, 4.5], [7, -2.25], [11, 100.0]]},
    {"min_tokens": 5, "stop_ids": [2, 9, 14]},
    {"min_tokens": 4, "stop_ids": [2, 9, 14]},
    {"repetition_penalty": 1.5, "logit_bias": [[1, 2.0], [5, -1.0]], "min_tokens": 6,
     "stop_ids": [5, 6]},
]  # fmt: skip
_DRAWN: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"temperature": 1.4, "top_k": 5},
    {"temperature": 0.9, "top_p": 0.75},
    {"temperature": 1.2, "min_p": 0.08},
    {"temperature": 0.8, "top_k": 9, "top_p": 0.85},
    {"temperature": 1.1, "top_k": 4, "min_p": 0.05},
]

CASES: list[dict[str, Any]] = [
    {"options": {**one, **other}, "seed": number,
     "prompt": [1, 5, 3, 5, 12], "output": [7, 3, 7, 9]}
    for number, (one, other) in enumerate(
        [*((shaped, {}) for shaped in _SHAPED), *itertools.product([{}, _SHAPED[-1]], _DRAWN)]
    )
]  # fmt: skip


def logits(case: dict[str, Any]) -> np.ndarray:
    """Those of the case's seed: float32 `[VOCAB]`."""
    rng = np.random.Generator(np.random.PCG64(case["seed"]))
    return (rng.random(VOCAB) * 12 - 6).astype(np.float32)
