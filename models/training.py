"""Training on whole sequences, with the very modules that are served.

Knows: the loss of next tokens, AdamW, steps. Does not know: where sequences come from, files,
pages, any family's arithmetic.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from aqua_jax.control import errors
from aqua_jax.loops import forward
from models import decoder

_BLOCK = 128  # rows whose scores are computed together, so that half of the future is left out


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """AdamW (arXiv 1711.05101): the rate rises over `warm_up` steps, then falls as a cosine."""

    steps: int
    warm_up: int = 60
    peak_rate: float = 2e-3
    last_rate: float = 1e-4
    weight_decay: float = 0.05
    clip: float = 1.0  # of the gradient's norm

    def optimiser(self) -> optax.GradientTransformation:
        """What turns gradients into updates. Vectors (norms) do not decay."""
        rate = optax.warmup_cosine_decay_schedule(
            0.0,
            self.peak_rate,
            warmup_steps=min(self.warm_up, self.steps),
            decay_steps=max(self.steps, self.warm_up + 1),
            end_value=self.last_rate,
        )
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(
                rate,
                b2=0.98,
                weight_decay=self.weight_decay,
                mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 2, params),
            ),
        )


def train(
    model: decoder.CausalDecoder,
    batches: Iterator[np.ndarray],
    schedule: Schedule,
    *,
    on_step: Callable[[int, float], None],
) -> Any:
    """The parameters after `schedule.steps` steps from those of `model`, which stay as they are.

    batches: int32 `[sequences, length + 1]`, as many as steps. on_step: is told the number of steps
    that are done and the loss of the last, in bits a token. Raises ConfigError for a model with
    windows or capped scores, and when the loss is no longer a number.
    """
    optimiser = schedule.optimiser()
    params = jax.tree.map(jnp.copy, model.params)
    state = optimiser.init(params)
    step = _compiled_step(model, optimiser)
    for done in range(1, schedule.steps + 1):
        params, state, bits = step(params, state, next(batches))
        if not math.isfinite(float(bits)):
            raise errors.ConfigError(
                f"the loss is {float(bits)} after step {done}: lower peak_rate"
                f" ({schedule.peak_rate})"
            )
        on_step(done, float(bits))
    return params


def packed(
    documents: Iterator[Sequence[int]], *, sequences: int, length: int
) -> Iterator[np.ndarray]:
    """Batches int32 `[sequences, length + 1]` of token ids.

    Every sequence begins with a document and goes on with the next ones; its last is cut.
    """
    while True:
        batch = np.empty((sequences, length + 1), np.int32)
        for row in batch:
            filled: list[int] = []
            while len(filled) < len(row):
                filled.extend(next(documents))
            row[:] = filled[: len(row)]
        yield batch


def bits_per_token(model: decoder.CausalDecoder, params: Any, tokens: jax.Array) -> jax.Array:
    """Mean of -log2 of what the model gives each token after the first, float32 scalar.

    tokens: int32 `[sequences, length + 1]`.
    """
    mesh = Mesh(np.asarray(jax.devices()[:1]), (forward.TENSOR_AXIS,))
    loss = functools.partial(_bits, model)
    spread = jax.shard_map(
        loss, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False
    )
    return spread(params, tokens)


def _compiled_step(
    model: decoder.CausalDecoder, optimiser: optax.GradientTransformation
) -> Callable[..., Any]:
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, tokens: jax.Array) -> Any:
        bits, gradient = jax.value_and_grad(lambda params: bits_per_token(model, params, tokens))(
            params
        )
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, bits

    return step


def _bits(model: decoder.CausalDecoder, params: Any, tokens: jax.Array) -> jax.Array:
    facts = model.facts
    if any(facts.windows) or facts.score_softcap:
        raise errors.ConfigError(
            f"model {facts.name!r} has windows or capped scores: training knows plain attention"
        )
    given, wanted = tokens[:, :-1], tokens[:, 1:].reshape(-1)
    sequences, length = given.shape
    rows = jnp.int32(sequences * length)
    span = forward.Span(jnp.tile(jnp.arange(length, dtype=jnp.int32), sequences), rows)
    scale = facts.score_scale or facts.head_dim**-0.5
    x = model.embed(params, given.reshape(-1), span)
    for index in range(facts.layers):
        layer = model.layer(params, jnp.int32(index))
        attended = _attend(*model.project(layer, x, span), sequences=sequences, scale=scale)
        x = model.combine(layer, x, attended, span)
    logits = model.logits(params, x, span)
    chosen = jnp.take_along_axis(logits, wanted[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen) / math.log(2)


def _attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, *, sequences: int, scale: float
) -> jax.Array:
    """Every row to itself and those before it in its sequence; rows as `project` gives them.

    Passes over the scores are what costs on a CPU. So the sum of the weights is one more column of
    the values.
    """
    queries, keys, values = (
        rows.reshape(sequences, -1, *rows.shape[1:]) for rows in (queries * scale, keys, values)
    )
    values = jnp.concatenate([values, jnp.ones_like(values[..., :1])], axis=-1)
    made = []
    for start in range(0, queries.shape[1], _BLOCK):
        block = queries[:, start : start + _BLOCK]
        past = slice(0, start + block.shape[1])
        scores = jnp.einsum("stkgd,sukd->skgtu", block, keys[:, past]).astype(jnp.float32)
        seen = start + jnp.arange(block.shape[1])[:, None] >= jnp.arange(past.stop)[None]
        scores = jnp.where(seen[None, None, None], scores, jnp.full_like(scores, -jnp.inf))
        highest = lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
        weights = jnp.exp(scores - highest)
        made.append(jnp.einsum("skgtu,sukd->stkgd", weights.astype(values.dtype), values[:, past]))
    summed = jnp.concatenate(made, axis=1)
    attended = summed[..., :-1] / summed[..., -1:]
    return attended.reshape(-1, *attended.shape[2:])
