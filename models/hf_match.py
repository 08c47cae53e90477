"""Whether a folder's tensors are those that a model is made of: all that differ, at once.

Knows: names, shapes and dtypes on both sides. Does not know: values, but for a head that the
embedding is tied to.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from aqua_jax.control import errors
from models import decoder, hf_folder, hf_leaves, safetensors_file

HEAD = "lm_head.weight"
_EMBEDDING = "embed_tokens.weight"
# What old checkpoints carry along and every model computes for itself.
_HARMLESS = re.compile(r".*\.rotary_emb\.inv_freq")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def check(folder: hf_folder.Folder, model: decoder.CausalDecoder, leaves: hf_leaves.Leaves) -> None:
    """Raises ConfigError that lists all that is missing, unexpected, of wrong shape or dtype."""
    wanted = expected(model.abstract_params, leaves)
    tensors = folder.tensors
    tied = _tied_to(wanted) if HEAD in tensors and HEAD not in wanted else ""
    unexpected = [
        name
        for name in tensors
        if name not in wanted and not _HARMLESS.fullmatch(name) and not (tied and name == HEAD)
    ]
    sizes = {
        name: f" is {list(tensors[name].shape)} where config.json makes it {list(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    }
    dtypes = {
        name: f" is {tensors[name].code}, expected one of {', '.join(safetensors_file.DTYPES)}"
        for name in wanted
        if name in tensors and tensors[name].dtype is None
    }
    lines = [
        _line("missing", dict.fromkeys((name for name in wanted if name not in tensors), "")),
        _line("unexpected", dict.fromkeys(unexpected, "")),
        _line("of wrong shape", sizes),
        _line("of a dtype that is not supported", dtypes),
    ]
    if any(lines):
        found = ";\n  ".join(line for line in lines if line)
        raise errors.ConfigError(
            f"the tensors in {folder.path} are not those of its config.json:\n  {found}"
        )
    if tied and not _same(folder, HEAD, tied):
        raise errors.ConfigError(
            f"{folder.path}: tie_word_embeddings makes {tied} the head, but {HEAD} is there and"
            " differs: set tie_word_embeddings to false to use it, or remove it"
        )


def expected(abstract: Any, leaves: hf_leaves.Leaves) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a model is made of, by name. abstract: its leaves."""
    return {
        name.format(layer=layer): shape
        for path, leaf in by_path(abstract).items()
        for layer in layers(leaf, leaves[path])
        for name, shape in zip(leaves[path].names, leaves[path].shapes, strict=True)
    }


def differences(abstract: Any, found: Mapping[str, Any]) -> str:
    """Our leaves by path whose shapes are not those of a model; "" where there are none."""
    wanted = {path: leaf.shape for path, leaf in by_path(abstract).items()}
    shapes = {path: tuple(leaf.shape) for path, leaf in found.items()}
    return "; ".join(
        f"{path} has shape {shapes.get(path)}, expected {wanted.get(path)}"
        for path in sorted(wanted.keys() | shapes.keys())
        if wanted.get(path) != shapes.get(path)
    )


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree of parameters by their keys, joined by dots."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def layers(leaf: Any, spec: hf_leaves.Leaf) -> range:
    """The layers that a leaf is stacked over; one where it is not."""
    return range(leaf.shape[0] if spec.is_stacked else 1)


def gathered(names: Iterable[str]) -> Iterator[str]:
    """Names that differ in their first number alone as one.

    >>> list(gathered(["a.0.b", "a.1.b", "a.2.b", "a.5.b", "c"]))
    ['a.{0-2,5}.b', 'c']
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        number = _NUMBER.search(name)
        if number is None:
            groups[name, ""] = []
        else:
            around = name[: number.start()], name[number.end() :]
            groups.setdefault(around, []).append(int(number[0]))
    for (before, behind), numbers in groups.items():
        yield f"{before}{_ranges(sorted(numbers))}{behind}"


def _ranges(numbers: list[int]) -> str:
    if len(numbers) < 2:
        return "".join(map(str, numbers))
    texts = []
    for _, run in itertools.groupby(enumerate(numbers), lambda item: item[1] - item[0]):
        ends = [number for _, number in run]
        texts.append(str(ends[0]) if len(ends) == 1 else f"{ends[0]}-{ends[-1]}")
    return f"{{{','.join(texts)}}}"


def _line(what: str, words: Mapping[str, str]) -> str:
    """All that something is wrong with. words: by name, what is to be said behind it."""
    by_words: dict[str, list[str]] = {}
    for name, text in words.items():
        by_words.setdefault(text, []).append(name)
    texts = [f"{name}{text}" for text, names in by_words.items() for name in gathered(names)]
    return f"{what}: {', '.join(texts)}" if texts else ""


def _tied_to(wanted: Mapping[str, tuple[int, ...]]) -> str:
    """The embedding that a model without a head of its own uses for it; "" where there is none."""
    return next((name for name in wanted if name.endswith(_EMBEDDING)), "")


def _same(folder: hf_folder.Folder, one: str, other: str) -> bool:
    tensors = folder.tensors
    if (tensors[one].shape, tensors[one].code) != (tensors[other].shape, tensors[other].code):
        return False
    bits, others = (folder.view(name).reshape(-1).view(np.uint8) for name in (one, other))
    same = np.array_equal(bits, others)
    folder.forget()
    return same
