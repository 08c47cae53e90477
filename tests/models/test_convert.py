"""Conversions: there and back bit for bit, in another dtype, in other shards, interrupted."""

from __future__ import annotations

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from aqua_jax import run
from aqua_jax.control import errors
from models import checkpoint, convert
from tests.models import hf_scene

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tensors_in(path) -> dict[str, np.ndarray]:
    return {
        name: value
        for file in path.glob("*.safetensors")
        for name, value in safetensors.numpy.load_file(file).items()
    }


def converted(source, target, **settings) -> list[tuple[float, float, str]]:
    told: list[tuple[float, float, str]] = []
    one = convert.Conversion(source=str(source), target=str(target), **settings)
    (line,) = one.run(lambda *how_far: told.append(how_far))
    assert line.startswith(f"{target}: {checkpoint.layout(target)}, 0.00 GiB")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (2, 2, "done")
    return told


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_there_and_back_gives_the_same_bits(tmp_path, dtype):
    values = hf_scene.tensors(hf_scene.TIED, dtype=dtype)
    values["model.norm.weight"] = values["model.norm.weight"].astype(np.float32)
    source = hf_scene.write(tmp_path / "source", values, config=hf_scene.TIED, shards=3)
    (source / "tokenizer.json").write_text("words")
    converted(source, tmp_path / "orbax")
    assert checkpoint.layout(tmp_path / "orbax") == checkpoint.ORBAX
    converted(tmp_path / "orbax", tmp_path / "back", shard_bytes=60_000)
    found = tensors_in(tmp_path / "back")
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert (found[name].dtype, found[name].tobytes()) == (value.dtype, value.tobytes())
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    assert len(list((tmp_path / "back").glob("*.safetensors"))) > 2


def test_another_dtype_in_the_same_layout(tmp_path):
    values = hf_scene.tensors()
    source = hf_scene.write(tmp_path / "source", values)
    converted(source, tmp_path / "half", layout="hf", dtype="bfloat16")
    for name, value in tensors_in(tmp_path / "half").items():
        assert value.tobytes() == values[name].astype(jnp.bfloat16).tobytes()
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config == {**hf_scene.LLAMA, "torch_dtype": "bfloat16"}


def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"layout is 'orbx' \(did you mean 'orbax'"):
        convert.Conversion(layout="orbx")
    with pytest.raises(errors.ConfigError, match="dtype is 'float16'"):
        convert.Conversion(dtype="float16")
    with pytest.raises(errors.ConfigError, match="shard_bytes is 0; give at least 1"):
        convert.Conversion(shard_bytes=0)

    def refusal(**settings: str) -> str:
        one = convert.Conversion(**settings)
        with pytest.raises(errors.ConfigError) as caught:
            list(one.run(lambda *how_far: pytest.fail("begun")))
        return str(caught.value)

    assert refusal() == "source is missing: give a folder, --config.source=DIR"
    assert "target is missing" in refusal(source="there")
    assert "exists: give a folder that does not" in refusal(source="no", target=str(tmp_path))
    assert "no is not there" in refusal(source="no", target=str(tmp_path / "new"))


@pytest.mark.parametrize(
    ("layout", "at"), [("hf", 0.5), ("hf", 1.0), ("hf", 1.7), ("orbax", 0.5), ("orbax", 1.0)]
)
def test_interrupted_it_leaves_nothing(tmp_path, layout, at):
    source = hf_scene.write(tmp_path / "source", hf_scene.tensors())
    one = convert.Conversion(source=str(source), target=str(tmp_path / "t"), layout=layout)

    def interrupt(done: float, total: float, words: str) -> None:
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(one.run(interrupt))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_door_converts_and_refuses_in_one_line(tmp_path, capsys):
    source = hf_scene.write(tmp_path / "source", hf_scene.tensors())
    command = [
        f"--config={ROOT / 'configs' / 'convert.py'}",
        f"--config.source={source}",
        f"--config.target={tmp_path / 'target'}",
    ]
    assert run.main(command) == 0
    assert f"{tmp_path / 'target'}: orbax, " in capsys.readouterr().out
    assert run.main(command) == 2
    assert "target exists: give a folder that does not" in capsys.readouterr().err
