"""Decoding in float64 numpy, one row at a time, as plainly as it can be said.

Knows: what each option means. Does not know: rows in company, devices, how it is done there.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from aqua_jax.loops import prompt


def shaped(logits: np.ndarray, payload: prompt.TextPayload, output: Sequence[int]) -> np.ndarray:
    """Logits after bias, penalties and stop ids held back: float64 `[vocab]`."""
    made = logits.astype(np.float64)
    for token, value in payload.logit_bias:
        made[token] += value
    for token in {*payload.prompt_ids, *output}:
        penalty = payload.repetition_penalty
        made[token] = made[token] / penalty if made[token] > 0 else made[token] * penalty
    for token, times in collections.Counter(output).items():
        made[token] -= payload.frequency_penalty * times + payload.presence_penalty
    if len(output) < payload.min_tokens:
        made[list(payload.stop_ids)] = -np.inf
    return made


def probabilities(logits: np.ndarray, payload: prompt.TextPayload) -> tuple[np.ndarray, float]:
    """Of each token to be drawn, float64 `[vocab]`; how near a token was to another fate.

    logits: after `shaped`.
    """
    found = _softmax(logits.astype(np.float64) / payload.temperature)
    order = np.argsort(-logits, kind="stable")
    kept = found >= payload.min_p * found.max()
    margins = [abs(found - payload.min_p * found.max()).min()]
    if payload.top_k:
        kept[order[payload.top_k :]] = False
    found = np.where(kept, found, 0) / found[kept].sum()
    if payload.top_p < 1:
        before = np.cumsum(found[order]) - found[order]
        kept = before < payload.top_p
        margins.append(abs(before - payload.top_p).min())
        found[order[~kept]] = 0
        found /= found.sum()
    return found, min(margins)


def draw(found: np.ndarray, number: float) -> tuple[int, float]:
    """The token for a number in [0, 1), by id; how near it was to another."""
    reached = np.cumsum(found)
    where = min(int(np.searchsorted(reached, number, side="right")), np.flatnonzero(found)[-1])
    return int(where), float(abs(reached - number).min())


def logprobs(logits: np.ndarray) -> np.ndarray:
    """The log softmax, float64 `[vocab]`."""
    return np.log(_softmax(logits.astype(np.float64)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
