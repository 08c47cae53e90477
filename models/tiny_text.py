"""The small model of the repository: what it is trained on, its tokenizer, its folder.

Knows: bytes as tokens, the special tokens between stories. Does not know: pages, schedules. The
folder is made by `configs/train_tiny_text.py` and is in Hugging Face layout.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from models import checkpoint, decoder, llama, shapes, stories, training

SPECIALS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
END, USER, ASSISTANT, TURN = range(256, 260)
NAME = "tiny_text"

_PROMPTS, _PROMPTS_SEED, _PROMPT_BYTES_MIN = 128, 1_000_003, 256

_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content }}"
    "{{ '<|endoftext|>' if message.role == 'assistant' else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_README = """\
# tiny_text

A Llama of {weights:,} weights whose tokens are bytes. It tells short stories of a child or an
animal with a name, a friend and a thing that happens, and adds small numbers in words; it knows
nothing else. After `<|user|>`, a request, `<|end|>` and `<|assistant|>` it tells what was asked.

Made from nothing but the grammar in `models/stories.py`, {tokens:,} bytes of it, each seen once, by

    python -m aqua_jax.run --config=configs/train_tiny_text.py --config.steps={steps}

The last loss was {bits:.2f} bits a byte. Licence: Apache 2.0, as the project.
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainTinyText:
    """The settings of the training.

    target: the folder to write, which must not exist. steps: of `sequences` sequences of `length`
    bytes each. peak_rate, last_rate, warm_up: of `training.Schedule`. asked: share of stories that
    come as a request and its answer; sums: share of such that are sums. seed: of text and weights.
    """

    target: str = "out/tiny_text"
    steps: int = 900
    sequences: int = 6
    length: int = 512
    peak_rate: float = 2e-3
    last_rate: float = 1e-4
    warm_up: int = 60
    asked: float = 0.12
    sums: float = 0.08
    seed: int = 1

    @property
    def title(self) -> str:
        """What is done."""
        tokens = self.steps * self.sequences * self.length
        return f"training {shape().weights:,} weights on {tokens:,} bytes of stories"

    def run(self, progress: Callable[[float, float, str], None]) -> Iterator[str]:
        """Trains, then writes the folder whole. Raises ConfigError."""
        checkpoint.check_free(pathlib.Path(self.target))
        began = time.monotonic()
        bits = Smoothed()

        def on_step(done: int, loss: float) -> None:
            bits.add(loss)
            progress(done, self.steps, f"{bits.value:.3f} bits a byte")

        model = untrained(self.seed)
        schedule = training.Schedule(
            steps=self.steps,
            warm_up=self.warm_up,
            peak_rate=self.peak_rate,
            last_rate=self.last_rate,
        )
        batches = training.packed(
            documents(self.seed, asked=self.asked, sums=self.sums),
            sequences=self.sequences,
            length=self.length,
        )
        model.params = training.train(model, batches, schedule, on_step=on_step)
        words = _README.format(
            weights=shape().weights,
            tokens=self.steps * self.sequences * self.length,
            steps=self.steps,
            bits=bits.value,
        )
        write(model, pathlib.Path(self.target), readme=words)
        minutes = (time.monotonic() - began) / 60
        yield f"{bits.value:.3f} bits a byte after {self.steps} steps, {minutes:.0f} minutes"
        yield f"written: {self.target}"


class Smoothed:
    """The mean of the last losses."""

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0

    def add(self, loss: float) -> None:
        """One more; the last fifty or so count."""
        self._count = min(self._count + 1, 50)
        self.value += (loss - self.value) / self._count


def shape() -> shapes.LlamaShape:
    """That of `shapes.DEMO`, with a vocabulary of bytes and special tokens, and tied embeddings."""
    return dataclasses.replace(
        shapes.DEMO,
        name=NAME,
        source="configs/train_tiny_text.py",
        vocab=256 + len(SPECIALS),
        tied_embeddings=True,
        context_tokens=512,
    )


def untrained(seed: int) -> decoder.CausalDecoder:
    """The model before its first step.

    Random weights as they are served serve to see that all of a model is used. To learn from, its
    layers have to add little to what comes in: else the embedding drowns in them, and the loss
    stays where it is when only the last byte is known.
    """
    model = llama.causal(shape(), seed=seed, dtype=jnp.float32)
    scales = {("ends", "embedding"): 0.3, ("blocks", "qkv"): 0.5}
    scales |= {("blocks", name): 0.1 for name in ("out", "down")}
    for (part, name), scale in scales.items():
        model.params[part][name] = model.params[part][name] * scale
    return model


def documents(seed: int, *, asked: float, sums: float) -> Iterator[list[int]]:
    """Token ids of stories and sums without end, each with its `END`."""
    rng = random.Random(seed)
    told, counted = stories.stories(seed), stories.sums(seed)
    while True:
        kind = rng.random()
        one = next(counted) if kind < sums else next(told)
        text = [*one.text.encode(), END]
        if kind < sums + asked:
            yield [USER, *one.about.encode(), TURN, ASSISTANT, *text]
        else:
            yield text


def prompts() -> Iterator[str]:
    """Stories whose beginnings are prompts. No training draws by their seed."""
    told = (story.text for story in stories.stories(_PROMPTS_SEED))
    long = (text for text in told if len(text) >= _PROMPT_BYTES_MIN)
    return itertools.islice(long, _PROMPTS)


def tokenizer() -> tokenizers.Tokenizer:
    """Each byte is the token of its number; special tokens follow."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet |= {chr(256 + number): byte for number, byte in enumerate(others)}
    made = tokenizers.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in SPECIALS])
    return made


def write(model: decoder.CausalDecoder, target: pathlib.Path, *, readme: str) -> None:
    """The folder, whole or not at all, weights in bfloat16. Raises ConfigError: target exists."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.params)
    with checkpoint.whole(target) as folder:
        made = folder / "made"
        checkpoint.save(params, _config(shape()), made)
        for file in made.iterdir():
            file.rename(folder / file.name)
        made.rmdir()
        tokenizer().save(str(folder / "tokenizer.json"))
        (folder / "prompts.txt").write_text("".join(f"{text}\n" for text in prompts()))
        _write_json(folder / "tokenizer_config.json", _tokenizer_config())
        _write_json(folder / "generation_config.json", _generation_config())
        (folder / "README.md").write_text(readme)


def _config(one: shapes.LlamaShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": one.hidden,
        "intermediate_size": one.ffn,
        "num_hidden_layers": one.layers,
        "num_attention_heads": one.heads,
        "num_key_value_heads": one.kv_heads,
        "head_dim": one.head_dim,
        "vocab_size": one.vocab,
        "max_position_embeddings": one.context_tokens,
        "rope_theta": one.rope_theta,
        "rms_norm_eps": one.norm_epsilon,
        "tie_word_embeddings": one.tied_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": END,
        "torch_dtype": "bfloat16",
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape().context_tokens,
        "eos_token": SPECIALS[0],
        "pad_token": SPECIALS[0],
        "clean_up_tokenization_spaces": False,
        "chat_template": _TEMPLATE,
    }


def _generation_config() -> dict[str, Any]:
    return {"eos_token_id": END, "do_sample": True, "temperature": 0.8, "top_p": 0.95}


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
