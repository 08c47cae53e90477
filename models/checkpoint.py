"""Weights on disk: orbax checkpoints of a decoder's parameters.

Knows: parameter trees, orbax. Does not know: other people's formats.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from aqua_jax.control import errors
from models import decoder, llama, shapes


def save(model: decoder.CausalDecoder, path: str | pathlib.Path) -> None:
    """Writes the model's parameters to the folder `path`, whole or not at all.

    Raises ConfigError when something is there: weights are never overwritten.
    """
    folder = pathlib.Path(path).absolute()
    if folder.exists():
        raise errors.ConfigError(f"{path} exists: give a folder that does not, or remove it")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, model.params)


def restore(
    shape: shapes.LlamaShape, path: str | pathlib.Path, *, dtype: jax.typing.DTypeLike
) -> decoder.CausalDecoder:
    """A model of `shape` with the parameters saved at `path`, as `dtype`.

    Raises ConfigError when nothing is there or when it was saved from another shape.
    """
    folder = pathlib.Path(path).absolute()
    if not folder.is_dir():
        raise errors.ConfigError(f"no checkpoint at {path}: give a folder that save() wrote")
    model = llama.causal(shape, dtype=dtype)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.metadata(folder).item_metadata
        _check(model.params, found, shape.name, path)
        model.params = checkpointer.restore(folder, jax.tree.map(_abstract, model.params))
    return model


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _check(params: Any, found: Any, name: str, path: str | pathlib.Path) -> None:
    """Names and shapes as this model has them; the first that differs is named."""
    wanted = {_name(key): leaf.shape for key, leaf in jax.tree.leaves_with_path(params)}
    saved = {_name(key): tuple(leaf.shape) for key, leaf in jax.tree.leaves_with_path(found.tree)}
    for key in sorted(wanted.keys() | saved.keys()):
        if wanted.get(key) != saved.get(key):
            raise errors.ConfigError(
                f"the checkpoint at {path} has {key} of shape {saved.get(key)}; model {name!r}"
                f" expects {wanted.get(key)}: choose the shape it was saved from"
            )


def _name(key: tuple[Any, ...]) -> str:
    """A parameter's path in words: dictionary keys joined by dots."""
    return ".".join(str(getattr(part, "key", getattr(part, "name", part))) for part in key)
