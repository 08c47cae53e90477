"""Small tokenizers as the library saves them, for tests: byte-level and byte-fallback."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "the quick brown fox jumps over the lazy dog, again and again and again",
    "Zwölf große Boxkämpfer jagen Viktor quer über den Sylter Deich",
    "人工智能 and 你好世界, 你好",
    "def f(x):\n    return x + 1\n",
]
SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]


@functools.cache
def byte_level() -> tokenizers.Tokenizer:
    """Byte-level BPE, as of Llama 3 and Qwen: all 256 bytes and a few merges."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


@functools.cache
def byte_fallback(*, strip: bool = True) -> tokenizers.Tokenizer:
    """BPE over characters with tokens for bytes, as of Llama 2 (and, without strip, of Gemma)."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted(set("▁abcdefghijklmnopqrstuvwxyz,.ö你好"))
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "a"), ("a", "n"), ("an", "d")]
    merges += [("▁", "▁")]
    merged = [left + right for left, right in merges]
    vocab = {
        token: id for id, token in enumerate(["<unk>", *SPECIALS, *fallback, *letters, *merged])
    }
    made = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    prepend = [normalizers.Prepend("▁")] if strip else []
    made.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    end = [decoders.Strip(" ", 1, 0)] if strip else []
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *end]
    )
    made.add_special_tokens(SPECIALS)
    return made


def beginning(made: tokenizers.Tokenizer, bos: str = "<s>") -> tokenizers.Tokenizer:
    """The same with a token before every text."""
    copy = tokenizers.Tokenizer.from_str(made.to_str())
    copy.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )
    return copy


def save(made: tokenizers.Tokenizer, folder: pathlib.Path, **files: dict[str, Any]) -> pathlib.Path:
    """A folder with tokenizer.json and further files by name: `tokenizer_config={...}`."""
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder
