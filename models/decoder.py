"""A family's module as the text loop takes it: pure functions of parameters.

Knows: flax modules with `ends` and `blocks`, parameter trees. Does not know: any family's
arithmetic, where parameters come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aqua_jax.control import errors
from aqua_jax.loops import forward, linear
from models import parts


class Ends(Protocol):
    """What comes before the first layer and after the last."""

    def embed(self, ids: jax.Array, span: forward.Span) -> jax.Array: ...

    def logits(self, x: jax.Array, span: forward.Span) -> jax.Array: ...


class Block(Protocol):
    """One layer, but for attention itself, which is the loop's between both halves.

    What differs from layer to layer without being weights is a `parts.LayerConstant` of it.
    """

    def project(
        self, x: jax.Array, span: forward.Span
    ) -> tuple[jax.Array, jax.Array, jax.Array]: ...

    def combine(self, x: jax.Array, attended: jax.Array, span: forward.Span) -> jax.Array: ...


class Module(Protocol):
    """The weights of a model. blocks: one `Block` whose leaves are stacked over layers."""

    ends: Any
    blocks: Any


class CausalDecoder:
    """A `forward.CausalModel` around `make`, which gives the module with random weights.

    divides: sizes of the model that tensor-parallel shards must divide, by name.
    constants: values `[layers, ...]` of the blocks' `parts.LayerConstant`s, by attribute. They are
    no parameters: not in `params`, not in checkpoints, whole on every shard.
    params: the weights, a tree as of `abstract_params`, or a function that makes it for this model,
    of which all else is known then; None: those that `make` draws from `seed`.
    """

    def __init__(
        self,
        facts: forward.ModelFacts,
        make: Callable[[nnx.Rngs], Module],
        *,
        divides: Mapping[str, int],
        constants: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        params: Any = None,
    ) -> None:
        self.facts = facts
        self._divides = divides
        self._constants = dict(constants or {})
        shape = nnx.eval_shape(lambda: make(nnx.Rngs(seed)))
        self._ends, ends = nnx.split(shape.ends)
        self._block, blocks, _ = nnx.split(shape.blocks, nnx.Param, parts.LayerConstant)
        variables = {"ends": ends, "blocks": blocks}
        self.abstract_params: Any = jax.tree.map(_value, variables, is_leaf=_is_variable)
        self.linear: Any = jax.tree.map(_linear, variables, is_leaf=_is_variable)
        self._experts = jax.tree.map(_is_experts, blocks, is_leaf=_is_variable)
        self._specs = jax.tree.map(_value, nnx.get_partition_spec(variables), is_leaf=_is_variable)
        self._params: Any = None
        if params is None:
            self._params = _draw(make, seed)
        else:
            self._params = params(self) if callable(params) else params

    @property
    def params(self) -> Any:
        """The weights. Raises InternalError once they were taken."""
        if self._params is None:
            raise errors.InternalError(
                f"the weights of {self.facts.name!r} were taken by a runner: build the model again"
            )
        return self._params

    @params.setter
    def params(self, params: Any) -> None:
        self._params = params

    def take_params(self) -> Any:
        """The weights, of which the model keeps none: they are the caller's alone."""
        taken, self._params = self.params, None
        return taken

    def specs(self, shards: int) -> Any:
        """PartitionSpecs of `params`. Raises ConfigError when `shards` do not divide the shape."""
        for what, count in self._divides.items():
            if count % shards:
                raise errors.ConfigError(
                    f"model {self.facts.name!r} has {what}={count}, which {shards} tensor-parallel "
                    f"shards do not divide: choose a number of shards that divides {count}"
                )
        return self._specs

    def layer(self, params: Any, index: jax.Array) -> Any:
        """The layer's weights and constants. Experts stay in the stack until they are chosen."""

        def cut(is_experts: bool, leaf: jax.Array) -> Any:
            return linear.Experts(leaf, index) if is_experts else leaf[index]

        weights = jax.tree.map(cut, self._experts, params["blocks"])
        constants = {name: jnp.asarray(leaf)[index] for name, leaf in self._constants.items()}
        return weights, constants

    def embed(self, params: Any, ids: jax.Array, span: forward.Span) -> jax.Array:
        return nnx.merge(self._ends, params["ends"]).embed(ids, span)

    def project(
        self, layer: Any, x: jax.Array, span: forward.Span
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        return nnx.merge(self._block, *layer).project(x, span)

    def combine(
        self, layer: Any, x: jax.Array, attended: jax.Array, span: forward.Span
    ) -> jax.Array:
        return nnx.merge(self._block, *layer).combine(x, attended, span)

    def logits(self, params: Any, x: jax.Array, span: forward.Span) -> jax.Array:
        return nnx.merge(self._ends, params["ends"]).logits(x, span)


def stack(make: Callable[[nnx.Rngs], Any], layers: int, rngs: nnx.Rngs) -> Any:
    """A block whose every leaf is stacked over so many layers, each drawn for itself."""

    @nnx.split_rngs(splits=layers)
    @nnx.vmap(in_axes=(0,), out_axes=0, transform_metadata={nnx.PARTITION_NAME: None})
    def stacked(rngs: nnx.Rngs) -> Any:
        return make(rngs)

    return stacked(rngs)


def _draw(make: Callable[[nnx.Rngs], Module], seed: int) -> Any:
    module = make(nnx.Rngs(seed))
    variables = {name: nnx.state(getattr(module, name), nnx.Param) for name in ("ends", "blocks")}
    return jax.tree.map(_value, variables, is_leaf=_is_variable)


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _linear(leaf: Any) -> str:
    if isinstance(leaf, parts.LinearWeights):
        return linear.WEIGHTS
    return linear.TABLE if isinstance(leaf, parts.AppliedTable) else ""


def _is_experts(leaf: Any) -> bool:
    return isinstance(leaf, parts.ExpertWeights)


def _value(leaf: Any) -> Any:
    return leaf.get_value()
