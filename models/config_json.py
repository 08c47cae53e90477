"""Reading a model's `config.json`, field by field: what is not understood is refused by name.

Knows: JSON, types and ranges of fields. Does not know: any family.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from aqua_jax.control import errors

# Say nothing about what a decoder computes: names, training, the library that wrote the file, and
# how to generate, which requests say here.
_IRRELEVANT: frozenset[str] = frozenset(
    (
        "_attn_implementation", "_attn_implementation_autoset", "_commit_hash",
        "_flash_attn_2_enabled", "_name_or_path", "architectures", "attn_implementation",
        "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
        "cache_implementation", "chunk_size_feed_forward", "decoder_start_token_id",
        "diversity_penalty", "do_sample", "dtype", "early_stopping",
        "encoder_no_repeat_ngram_size", "eos_token_id", "finetuning_task", "forced_bos_token_id",
        "forced_eos_token_id", "id2label", "initializer_range", "is_decoder", "is_llama_config",
        "keys_to_ignore_at_inference", "label2id", "length_penalty", "max_length",
        "max_sequence_length", "min_length", "model_type", "no_repeat_ngram_size",
        "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
        "output_hidden_states", "output_scores", "pad_token_id", "prefix", "pretraining_tp",
        "problem_type", "repetition_penalty", "return_dict", "return_dict_in_generate",
        "sep_token_id", "suppress_tokens", "task_specific_params", "temperature",
        "tf_legacy_loss", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
        "transformers.js_config", "transformers_version", "typical_p", "unsloth_fixed",
        "unsloth_version", "use_bfloat16", "use_cache",
    )
)  # fmt: skip
# Change what is computed in ways that no family here knows.
_REFUSED: Mapping[str, str] = {
    "quantization_config": "no such field: quantized weights are not supported, only "
    "float32, float16 and bfloat16 ones",
    "is_encoder_decoder": "false: only decoders are supported",
    "add_cross_attention": "false: only decoders are supported",
}
_MISSING = object()


class Fields:
    """The fields of one file. Every getter raises ConfigError with file, field and expectation.

    What nobody has asked for by `refuse_rest` is not understood.
    """

    def __init__(
        self, values: Mapping[str, Any], path: str | pathlib.Path, *, within: str = ""
    ) -> None:
        self.path = path
        self._within = within
        self._values = dict(values)
        self._asked: set[str] = set(_IRRELEVANT)

    @classmethod
    def read(cls, path: str | pathlib.Path) -> Fields:
        """The fields of the file `path`."""
        try:
            values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise errors.ConfigError(
                f"{path} is not there: expected a model's config.json in Hugging Face layout"
            ) from None
        except (OSError, ValueError) as error:
            raise errors.ConfigError(f"{path} cannot be read as JSON: {error}") from None
        if not isinstance(values, dict):
            raise errors.ConfigError(f"{path} holds a {type(values).__name__}: expected an object")
        return cls(values, path)

    @property
    def architecture(self) -> str:
        """The one that `architectures` names."""
        named = self._values.get("architectures")
        if not (isinstance(named, list) and len(named) == 1 and isinstance(named[0], str)):
            raise self.wrong("architectures", named, "a list of one name")
        return named[0]

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`; null and absent are `default`, if there is one."""
        value = self._get(name, default)
        if type(value) is not int or value < least:
            raise self.wrong(name, value, f"a whole number of at least {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.wrong(name, value, "a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise self.wrong(name, value, "true or false")
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        """Raises unless the field is absent or one of `allowed`: nothing else is supported."""
        value = self._get(name, None)
        if value is not None and value not in allowed:
            raise self.wrong(name, value, " or ".join(repr(one) for one in allowed))

    def inner(self, name: str) -> Fields | None:
        """The fields of the object in this one, errors naming both; None where it is absent."""
        value = self._get(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, value, "an object")
        return Fields(value, self.path, within=f"{self._within}{name}.")

    def has(self, name: str) -> bool:
        """True where the field is there, be it null."""
        return name in self._values

    def raw(self, name: str) -> Any:
        """The field as it stands; None where it is absent."""
        return self._get(name, None)

    def ignore(self, names: Iterable[str]) -> None:
        """These say nothing about what this family computes."""
        self._asked.update(names)

    def refuse_rest(self) -> None:
        """Raises for the first field that nobody has asked for and that says something."""
        for name, value in self._values.items():
            nothing = value is None or value is False or value in ([], {}, "")
            if name not in self._asked and not nothing:
                expected = "no such field: this family does not know it"
                raise self.wrong(name, value, _REFUSED.get(name, expected))

    def wrong(self, name: str, value: Any, expected: str) -> errors.ConfigError:
        """The error to raise for a field."""
        return errors.ConfigError(
            f"{self.path}: {self._within}{name} is {json.dumps(value, default=str)[:80]}: "
            f"expected {expected}"
        )

    def _get(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        value = self._values.get(name, _MISSING)
        if value is _MISSING or value is None:
            return default
        return value
