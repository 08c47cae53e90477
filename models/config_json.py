"""Reading a model's `config.json`, field by field: what is not understood is refused by name.

Knows: JSON, types and ranges of fields. Does not know: any family.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from aqua_jax.control import errors

# Say nothing about what the model computes.
_IRRELEVANT: frozenset[str] = frozenset(
    (
        "_name_or_path", "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id",
        "finetuning_task", "id2label", "initializer_range", "label2id", "model_type",
        "output_attentions", "output_hidden_states", "pad_token_id", "pretraining_tp",
        "problem_type", "return_dict", "tokenizer_class", "torch_dtype", "transformers_version",
        "use_cache",
    )
)  # fmt: skip
_MISSING = object()


class Fields:
    """The fields of one file. Every getter raises ConfigError with file, field and expectation.

    What nobody has asked for by `refuse_rest` is not understood.
    """

    def __init__(self, values: Mapping[str, Any], path: str | pathlib.Path) -> None:
        self.path = path
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

    def raw(self, name: str) -> Any:
        """The field as it stands; None where it is absent."""
        return self._get(name, None)

    def ignore(self, names: Iterable[str]) -> None:
        """These say nothing about what this family computes."""
        self._asked.update(names)

    def refuse_rest(self) -> None:
        """Raises for the first field that nobody has asked for and that says something."""
        for name, value in self._values.items():
            if name not in self._asked and value is not None and value is not False:
                raise self.wrong(name, value, "no such field: this family does not know it")

    def wrong(self, name: str, value: Any, expected: str) -> errors.ConfigError:
        """The error to raise for a field."""
        return errors.ConfigError(
            f"{self.path}: {name} is {json.dumps(value, default=str)[:80]}: expected {expected}"
        )

    def _get(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        value = self._values.get(name, _MISSING)
        if value is _MISSING or value is None:
            return default
        return value
