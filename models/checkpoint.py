"""A model's folder, read and written in either layout: Hugging Face's and orbax's.

Knows: which layout a folder has, how a folder is written whole or not at all. Does not know: what
is inside (`hf_folder.py`, `orbax_folder.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from aqua_jax.control import errors
from models import (
    config_json,
    decoder,
    families,
    hf_folder,
    hf_load,
    hf_match,
    hf_save,
    orbax_folder,
)

HF = "hf"
ORBAX = "orbax"
LAYOUTS = (HF, ORBAX)
SHARD_BYTES = 5_000_000_000  # as Hugging Face's own

# What belongs to a model beside config.json and weights.
_COMPANIONS = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json",
    "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "vocab.json", "LICENSE", "LICENSE.txt", "LICENSE.md",
)  # fmt: skip


def layout(path: pathlib.Path) -> str:
    """Which of `LAYOUTS` the folder `path` has, as far as names of files say."""
    return ORBAX if orbax_folder.is_one(path) else HF


def load(
    path: str | pathlib.Path,
    *,
    dtype: jax.typing.DTypeLike | None,
    mesh: jax.sharding.Mesh | None = None,
    progress: hf_load.Progress | None = None,
) -> decoder.CausalDecoder:
    """The model of a folder in either layout, its weights placed on the mesh as the model says.

    dtype: None: each leaf as it is saved. mesh: default the first device alone.

    Raises ConfigError, before anything is allocated, for a folder that is not whole, a config.json
    that no family understands, and tensors that are not those of config.json: it names them all.
    """
    path = pathlib.Path(path)
    if layout(path) == ORBAX:
        return orbax_folder.load(path, dtype=dtype, mesh=mesh)
    return hf_load.load(hf_folder.Folder(path), dtype=dtype, mesh=mesh, progress=progress)


def save(
    params: Any,
    config: Mapping[str, Any] | bytes,
    path: str | pathlib.Path,
    *,
    layout: str = HF,
    shard_bytes: int = SHARD_BYTES,
    companions: str | pathlib.Path | None = None,
    progress: hf_save.Progress | None = None,
) -> None:
    """Writes parameters and their config.json to the folder `path`, whole or not at all.

    config: the file's fields, or its bytes, kept as they are. companions: a folder whose tokenizer,
    templates and licence are copied. shard_bytes, progress: of the Hugging Face layout.

    Raises ConfigError when something is there, for nothing is ever overwritten, and for parameters
    that are not those of the config.
    """
    text = config if isinstance(config, bytes) else json.dumps(config, indent=2).encode() + b"\n"
    with whole(pathlib.Path(path)) as folder:
        (folder / hf_folder.CONFIG).write_bytes(text)
        fields = config_json.Fields.read(folder / hf_folder.CONFIG)
        family = families.of(fields)
        shape = family.shape(fields)
        abstract = family.causal(shape, params={}).abstract_params
        wrong = hf_match.differences(abstract, hf_match.by_path(params))
        if wrong:
            raise errors.ConfigError(f"{path}: the parameters are not those of the config: {wrong}")
        if companions is not None:
            _copy(pathlib.Path(companions), folder)
        if layout == ORBAX:
            orbax_folder.write(params, folder)
        else:
            leaves = family.leaves(shape)
            hf_save.write(params, leaves, folder, shard_bytes=shard_bytes, progress=progress)


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside `path`, which becomes `path` in the end; it is removed when that fails.

    Raises ConfigError when something is at `path`.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise errors.ConfigError(
            f"{path} cannot be written: {error.strerror} ({error.filename})"
        ) from None
    try:
        yield beside
        check_free(path)
        beside.chmod(0o777 & ~_umask())
        beside.rename(path)
    except OSError as error:
        raise errors.ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_free(path: pathlib.Path) -> None:
    """Raises ConfigError when something is at `path`."""
    if os.path.lexists(path):
        raise errors.ConfigError(f"{path} exists: give a folder that does not, or remove it")


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    for name in _COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _umask() -> int:
    """The process's; there is no way to ask but to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
