"""A model's folder with its weights as orbax keeps them: our own leaves, read in parallel.

    config.json     of the model, as in Hugging Face layout
    orbax/          the parameters

Knows: parameter trees, orbax. Does not know: other layouts, how a folder is written whole.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from aqua_jax.control import errors
from models import config_json, decoder, families, hf_folder, hf_load, hf_match

WEIGHTS = "orbax"


def is_one(path: pathlib.Path) -> bool:
    """Whether the folder holds weights in this layout."""
    return (path / WEIGHTS).is_dir()


def write(params: Any, path: pathlib.Path) -> None:
    """Writes the parameters into the folder `path`."""
    with ocp.StandardCheckpointer() as checkpointer:
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
        with ocp.StandardCheckpointer() as checkpointer:
            try:
                found = checkpointer.metadata(weights).item_metadata.tree
            except (OSError, ValueError, KeyError, AttributeError) as error:
                raise _broken(weights, error) from error
            saved = hf_match.by_path(found)
            _check(model, saved, path)
            kept = {key: leaf.dtype for key, leaf in saved.items()} if dtype is None else None
            wanted = hf_load.targets(model, mesh, kept)
            try:
                return checkpointer.restore(weights, wanted)
            except (OSError, ValueError) as error:
                raise _broken(weights, error) from error

    given = jnp.float32 if dtype is None else dtype
    return family.causal(family.shape(fields), dtype=given, params=restore)


def _check(model: decoder.CausalDecoder, saved: dict[str, Any], path: pathlib.Path) -> None:
    """Names and shapes as this model has them; all that differ are named."""
    wanted = {key: leaf.shape for key, leaf in hf_match.by_path(model.abstract_params).items()}
    found = {key: tuple(leaf.shape) for key, leaf in saved.items()}
    wrong = [
        f"{key} has shape {found.get(key)}, expected {wanted.get(key)}"
        for key in sorted(wanted.keys() | found.keys())
        if wanted.get(key) != found.get(key)
    ]
    if wrong:
        raise errors.ConfigError(
            f"the parameters in {path / WEIGHTS} are not those of {path / hf_folder.CONFIG}:"
            f" {'; '.join(wrong)}"
        )


def _broken(weights: pathlib.Path, error: Exception) -> errors.ConfigError:
    return errors.ConfigError(
        f"{weights} cannot be read as a checkpoint of orbax: {str(error)[:300]}; save it again"
    )
