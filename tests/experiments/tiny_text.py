"""A tiny model of random weights with a byte-level tokenizer, in a folder, for completions."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from aqua_jax.experiments import completion_settings, settings
from models import build
from tests.models import hf_scene
from tests.tokens import chat_cases, vocabularies

CONFIG = {
    **hf_scene.LLAMA,
    "num_hidden_layers": 2,
    "vocab_size": 352,
    "max_position_embeddings": 96,
    "eos_token_id": 1,
}


def write(path: pathlib.Path, *, template: str = chat_cases.CHATML) -> pathlib.Path:
    """The folder `path`. template: of chats; "": none."""
    folder = hf_scene.write(path, hf_scene.tensors(CONFIG), config=CONFIG)
    config = {"eos_token": "</s>"} | ({"chat_template": template} if template else {})
    return vocabularies.save(vocabularies.byte_level(), folder, tokenizer_config=config)


def wanted(path: pathlib.Path, **changes: Any) -> completion_settings.CompletionSettings:
    """Settings of completions by the model at `path`, small."""
    given: dict[str, Any] = {
        "model": settings.ModelSettings(build=build.causal, path=str(path)),
        "prompt": "the quick",
        "max_tokens": 12,
        "engine": settings.EngineSettings(lanes=4, chunk_tokens=32, units_max=128, steps_max=4),
        "memory": settings.MemorySettings(
            pool_pages=9, tiers={"host": settings.TierSettings(kind="host", bytes=1 << 20)},
            probe="off",
        ),
    }  # fmt: skip
    return completion_settings.CompletionSettings(**given | changes)


def prompts_file(path: pathlib.Path, lines: list[Any]) -> str:
    """A file of prompts, one a line; `.jsonl` by the name of `path`."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return str(path)
