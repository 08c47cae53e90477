"""The small model: bytes as tokens, a training that runs, a folder that is whole."""

from __future__ import annotations

import itertools
import json
import pathlib

import jax
import numpy as np
import pytest

from aqua_jax.control import errors
from aqua_jax.tokens import tokenizer
from models import build, tiny_text

pytest.importorskip("optax")

SHORT = {"steps": 2, "sequences": 1, "length": 32, "warm_up": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What a training of two steps leaves."""
    target = tmp_path_factory.mktemp("tiny") / "model"
    told: list[tuple[float, float]] = []
    task = tiny_text.TrainTinyText(target=str(target), **SHORT)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes, as jax lets it by default
        lines = list(task.run(lambda done, total, words: told.append((done, total))))
    assert told == [(1, 2), (2, 2)]
    assert lines[-1] == f"written: {target}"
    return target


def test_the_folder_has_what_a_model_needs(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors",
        "prompts.txt", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert (folder / "model.safetensors").stat().st_size < 8e6
    assert "bits a byte" in (folder / "README.md").read_text()


def test_its_model_is_that_of_the_shape(folder):
    model = build.causal("", seed=0, path=str(folder))
    shape = tiny_text.shape()
    assert model.facts.vocab == shape.vocab == 260
    assert model.facts.context_tokens == 512
    assert sum(leaf.size for leaf in jax.tree.leaves(model.params)) == shape.weights
    # Two steps change little, bfloat16 less.
    begun = tiny_text.untrained(1).params["blocks"]["gate"]
    np.testing.assert_allclose(model.params["blocks"]["gate"], begun, atol=0.05)


def test_its_tokens_are_bytes(folder):
    known = tokenizer.Tokenizer(folder)
    text = 'Zoë said: "Good!"\n'
    assert known.encode(text) == list(text.encode())
    assert known.decode(range(256)) == bytes(range(256)).decode(errors="replace")
    assert known.encode("a<|end|>b") == [97, tiny_text.TURN, 98]
    assert known.eos_ids == (tiny_text.END,)
    assert known.vocab_size == 260


def test_documents_are_stories_and_answers_each_with_its_end():
    drawn = list(itertools.islice(tiny_text.documents(0, asked=0.3, sums=0.3), 200))
    assert all(ids[-1] == tiny_text.END and tiny_text.END not in ids[:-1] for ids in drawn)
    asked = [ids for ids in drawn if ids[0] == tiny_text.USER]
    assert 60 < len(asked) < 180
    assert all(ids.index(tiny_text.TURN) + 1 == ids.index(tiny_text.ASSISTANT) for ids in asked)


def test_a_target_that_is_there_is_refused_before_anything_is_done(folder):
    task = tiny_text.TrainTinyText(target=str(folder), **SHORT)
    with pytest.raises(errors.ConfigError, match="exists: give a folder that does not"):
        next(task.run(lambda *said: None))


def test_interrupted_it_leaves_nothing(tmp_path):
    def interrupt(*said: object) -> None:
        raise KeyboardInterrupt

    task = tiny_text.TrainTinyText(target=str(tmp_path / "model"), **SHORT)
    with jax.numpy_dtype_promotion("standard"), pytest.raises(KeyboardInterrupt):
        list(task.run(interrupt))
    assert not list(tmp_path.iterdir())


def test_the_template_is_what_it_was_trained_on(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert "<|' + message.role + '|>" in config["chat_template"]
