"""A folder in Hugging Face layout: config.json and tensors in one or several safetensors files.

Knows: names of files, the index. Does not know: what the tensors are for. Nothing that would have
to be unpickled is ever opened.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from aqua_jax.control import errors
from models import config_json, safetensors_file

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_BASE, _HEAD = "model.", "lm_head."
_OF_BASE = re.compile(r"(decoder\.)?layers\.\d+\.")


class Folder:
    """An opened one. Raises ConfigError with file and expectation for what is not whole.

    tensors: what the headers say, by name, over all files. The names are those of a model with a
    head; where a model without one was saved, as OPT's authors did, they begin with "model." too.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        names = _names(path)
        self.fields = config_json.Fields.read(path / CONFIG)
        self._files = [safetensors_file.TensorFile(path / name) for name in _shards(path, names)]
        self._where: dict[str, safetensors_file.TensorFile] = {}
        for file in self._files:
            for name in file.tensors:
                if name in self._where:
                    raise errors.ConfigError(
                        f"{file.path} has {name}, which {self._where[name].path.name} has too:"
                        " expected every tensor once"
                    )
                self._where[name] = file
        if INDEX in names:
            self._check_index()
        has_base = any(name.startswith(_BASE) for name in self._where)
        lacks_base = not has_base and any(_OF_BASE.match(name) for name in self._where)
        self._saved_as = {
            f"{_BASE}{name}" if lacks_base and not name.startswith(_HEAD) else name: name
            for name in self._where
        }
        self.tensors: Mapping[str, safetensors_file.Tensor] = {
            name: self._where[saved].tensors[saved] for name, saved in self._saved_as.items()
        }

    def view(self, name: str) -> np.ndarray:
        """The tensor's values, read-only, where the file is mapped."""
        saved = self._saved_as[name]
        return self._where[saved].view(saved)

    def forget(self) -> None:
        """Gives back the memory of what has been read; views stay valid and read it again."""
        for file in self._files:
            file.forget()

    def _check_index(self) -> None:
        """That every tensor lies in the shard that the index puts it in."""
        for name, shard in _weight_map(self.path / INDEX).items():
            found = self._where.get(name)
            if found is None or found.path.name != shard:
                where = f"; it is in {found.path.name}" if found else ""
                raise errors.ConfigError(
                    f"{self.path / INDEX} puts {name} in {shard}, which does not have it{where}"
                )


def _names(path: pathlib.Path) -> set[str]:
    """Of the files in the folder, of which there are some."""
    try:
        names = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        raise errors.ConfigError(f"{path} is not there: {_expectation()}") from None
    except NotADirectoryError:
        raise errors.ConfigError(f"{path} is a file: {_expectation()}") from None
    except OSError as error:
        raise errors.ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not names:
        raise errors.ConfigError(f"{path} is empty: {_expectation()}")
    return names


def _expectation() -> str:
    return f"expected a folder with {CONFIG} and {SINGLE}, or {INDEX} and its shards"


def _shards(path: pathlib.Path, names: set[str]) -> list[str]:
    """The files that hold the tensors."""
    if INDEX in names:
        shards = sorted(set(_weight_map(path / INDEX).values()))
        missing = [shard for shard in shards if shard not in names]
        if missing:
            raise errors.ConfigError(
                f"{path / INDEX} names shards that are not there: {', '.join(missing)};"
                " fetch them too"
            )
        if SINGLE in names and SINGLE not in shards:
            raise errors.ConfigError(
                f"{path} has {SINGLE} and {INDEX}, which does not name it: expected one of them;"
                " remove the other"
            )
        return shards
    if SINGLE in names:
        return [SINGLE]
    loose = sorted(name for name in names if name.endswith(".safetensors"))
    if loose:
        raise errors.ConfigError(
            f"{path} has {', '.join(loose)} but neither {SINGLE} nor {INDEX}, which says what"
            " belongs together; fetch it too"
        )
    pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickled:
        raise errors.ConfigError(
            f"{path} has its weights in {', '.join(pickled)} alone, which could run any code when"
            f" it is read, so it never is: convert it to safetensors; {_expectation()}"
        )
    raise errors.ConfigError(f"{path} has no weights: {_expectation()}")


def _weight_map(path: pathlib.Path) -> dict[str, str]:
    """The index: shard by tensor."""
    try:
        value: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise errors.ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise errors.ConfigError(f"{path} is no JSON: {error}") from None
    shards = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise errors.ConfigError(f"{path} has no weight_map: expected shards by tensor")
    for name, shard in shards.items():
        if not isinstance(shard, str) or pathlib.PurePath(shard).name != shard:
            raise errors.ConfigError(
                f"{path}: weight_map puts {name} in {shard!r:.80}: expected a file beside the index"
            )
    return shards
