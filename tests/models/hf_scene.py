"""Tiny folders in Hugging Face layout, written by the format's own library."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from models import config_json, families, hf_leaves, hf_match

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 8,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "vocab_size": 128,
    "torch_dtype": "float32",
}
TIED = {**LLAMA, "tie_word_embeddings": True}


def leaves_of(config: dict[str, Any]) -> tuple[Any, hf_leaves.Leaves]:
    """The abstract parameters of a config's model, and what its leaves are made of."""
    fields = config_json.Fields(config, "scene/config.json")
    family = families.of(fields)
    shape = family.shape(fields)
    return family.causal(shape, params={}).abstract_params, family.leaves(shape)


def tensors(
    config: dict[str, Any] = LLAMA, *, dtype: Any = np.float32, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random ones, all that the config's model is made of."""
    random = np.random.default_rng(seed)
    wanted = hf_match.expected(*leaves_of(config))
    return {name: random.normal(size=shape).astype(dtype) for name, shape in wanted.items()}


def write_file(path: pathlib.Path, values: dict[str, np.ndarray]) -> None:
    """One file of tensors."""
    whole = {name: np.ascontiguousarray(value) for name, value in values.items()}
    path.write_bytes(safetensors.numpy.save(whole))


def write(
    path: pathlib.Path,
    values: dict[str, np.ndarray],
    *,
    config: dict[str, Any] = LLAMA,
    shards: int = 1,
) -> pathlib.Path:
    """A folder with a config and these tensors, dealt out over so many shards."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    if shards == 1:
        write_file(path / "model.safetensors", values)
        return path
    names = [f"model-{number}-of-{shards}.safetensors" for number in range(shards)]
    where = {tensor: names[index % shards] for index, tensor in enumerate(values)}
    for name in names:
        write_file(path / name, {key: values[key] for key in values if where[key] == name})
    index = {"metadata": {}, "weight_map": where}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def check_equal(ours: Any, values: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    """That parameters are made of these tensors, bit for bit in their own dtype."""
    _, leaves = leaves_of(config)
    for path, array in hf_match.by_path(ours).items():
        spec = leaves[path]
        for layer in hf_match.layers(array, spec):
            found = spec.split(np.asarray(array)[layer] if spec.is_stacked else np.asarray(array))
            for name, value in zip(spec.names, found, strict=True):
                wanted = values[name.format(layer=layer)].astype(array.dtype)
                bits = [np.ascontiguousarray(one).view(np.uint8) for one in (value, wanted)]
                np.testing.assert_array_equal(*bits, err_msg=f"{path} {name} {layer}")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def pointers(params: Any) -> list[int]:
    """Where every device's part of every array lies."""
    return [
        shard.data.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(params)
        for shard in leaf.addressable_shards
    ]
