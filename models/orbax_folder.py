"""A model's folder with its weights as orbax keeps them: our own leaves, read in parallel.

    config.json     of the model, as in Hugging Face layout
    orbax/          the parameters

Knows: parameter trees, orbax. Does not know: other layouts, how a folder is written whole.
"""

from __future__ import annotations

import importlib
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from aqua_jax.control import errors
from models import config_json, decoder, families, hf_folder, hf_load, hf_match

WEIGHTS = "orbax"


def is_one(path: pathlib.Path) -> bool:
    """Whether the folder holds weights in this layout."""
    return os.path.isdir(path / WEIGHTS)  # Path.is_dir raises where one may not look


def write(params: Any, path: pathlib.Path) -> None:
    """Writes the parameters into the folder `path`."""
    with _checkpointer() as checkpointer:
        checkpointer.save(path.absolute() / WEIGHTS, params)


def load(
    path: pathlib.Path,
    *,
    dtype: jax.typing.DTypeLike | None,
    mesh: jax.sharding.Mesh | None = None,
) -> decoder.CausalDecoder:
    """The model of a folder, its weights placed on the mesh as the model says.

    dtype, mesh: as of `hf_load.load`. Raises ConfigError, before anything is allocated, for
    parameters that are not those of config.json.
    """
    fields = config_json.Fields.read(path / hf_folder.CONFIG)
    family = families.of(fields)
    weights = path.absolute() / WEIGHTS

    def restore(model: decoder.CausalDecoder) -> Any:
        with _checkpointer() as checkpointer:
            try:
                found = checkpointer.metadata(weights).item_metadata
            except (OSError, ValueError, KeyError) as error:
                raise _broken(weights, error) from error
            if found is None:
                raise _broken(weights, "it holds no parameters")
            saved = hf_match.by_path(found.tree)
            wrong = hf_match.differences(model.abstract_params, saved)
            if wrong:
                raise errors.ConfigError(
                    f"the parameters in {weights} are not those of {path / hf_folder.CONFIG}:"
                    f" {wrong}"
                )
            kept = {key: leaf.dtype for key, leaf in saved.items()} if dtype is None else None
            wanted = hf_load.targets(model, mesh, kept)
            try:
                return checkpointer.restore(weights, wanted)
            except (OSError, ValueError) as error:
                raise _broken(weights, error) from error

    given = jnp.float32 if dtype is None else dtype
    return family.causal(family.shape(fields), dtype=given, params=restore)


def _checkpointer() -> Any:
    """Orbax's. It is imported when first asked for: it takes long, and most models need none."""
    return importlib.import_module("orbax.checkpoint").StandardCheckpointer()


def _broken(weights: pathlib.Path, error: Exception | str) -> errors.ConfigError:
    return errors.ConfigError(
        f"{weights} cannot be read as a checkpoint of orbax: {str(error)[:300]}; save it again"
    )
