"""Which mover, attention and linear layers the arms get: native ones where their library is there.

Knows: settings, whether the native library of a platform is there. Does not
know: what either does. What `auto` chooses is said and reported, with the
reason: an experiment must not measure something else without a word.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from aqua_jax.control import errors
from aqua_jax.experiments import settings
from aqua_jax.loops import forward, native_attention
from aqua_jax.memory import native

_LIBRARIES = {"cpu": "cpu", "gpu": "CUDA"}  # jax's platform -> the library's
# setting -> (with the library, without it)
_AUTO = {"mover": ("ffi", "xla"), "attention": ("native", "xla"), "linear": ("native", "xla")}
_HEADS = {"mover": "memory", "attention": "memory", "linear": "engine"}
_LINEAR_PLATFORM = "cpu"


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What a setting came to. setting: `memory.mover=auto`; used: `ffi`; because: why."""

    setting: str
    used: str
    because: str


@dataclasses.dataclass(frozen=True)
class DataPath:
    """The choices of one run, by setting. library: None where nothing native is used."""

    library: native.Library | None
    choices: Mapping[str, Choice]
    attention_asked: str
    linear_asked: str

    def mover(self, memory: settings.MemorySettings) -> str:
        """The mover of an arm: reference, xla or ffi."""
        return self.choices[_name("mover", memory.mover)].used

    @property
    def attention(self) -> str:
        """That of all arms: xla or native."""
        return self.choices[_name("attention", self.attention_asked)].used

    @property
    def linear(self) -> str:
        """The linear layers of all arms: xla or native."""
        return self.choices[_name("linear", self.linear_asked)].used

    def fitted(self, facts: forward.ModelFacts) -> DataPath:
        """The same for this model: `auto` gives way where native attention cannot compute it.

        Raises ConfigError where native attention is asked for by name.
        """
        if self.attention != "native":
            return self
        try:
            native_attention.check(facts)
        except errors.ConfigError as error:
            if self.attention_asked != settings.AUTO:
                raise
            name = _name("attention", settings.AUTO)
            given_way = {name: Choice(name, "xla", str(error))}
            return dataclasses.replace(self, choices={**self.choices, **given_way})
        return self

    @property
    def native_library(self) -> native.Library:
        """The library, where something native is used."""
        assert self.library is not None, "loaded by resolve() where something native is used"
        return self.library

    @property
    def library_digest(self) -> str:
        """Tells one build of the library from another."""
        return hashlib.sha256(self.native_library.path.read_bytes()).hexdigest()[:16]

    @property
    def sentence(self) -> str:
        """What `auto` came to and why, for the console; "" when nothing was left open."""
        by_reason: dict[str, list[str]] = {}
        for choice in self.choices.values():
            setting, _, asked = choice.setting.partition("=")
            if asked == settings.AUTO:
                by_reason.setdefault(choice.because, []).append(f"{setting}={choice.used}")
        return "; ".join(f"{', '.join(used)}: {reason}" for reason, used in by_reason.items())


def resolve(arms: Sequence[settings.Experiment], platform: str) -> DataPath:
    """What the arms get on devices of jax's `platform` ("cpu", "gpu").

    Raises NativeError, which says how to build it, where something native is
    asked for by name and the library is not there. The arms share attention and linear layers.
    """
    reason = _missing(platform)
    attending = [arm.memory.attend_away for arm in arms if arm.memory.attends.is_on]
    if reason and attending:
        raise errors.NativeError(f"memory.attend_away={attending[0]}: {reason}")
    asked = [
        *dict.fromkeys(("mover", arm.memory.mover) for arm in arms),
        ("attention", arms[0].memory.attention),
        ("linear", arms[0].engine.linear),
    ]
    choices = [_choose(setting, value, platform, reason) for setting, value in asked]
    uses_native = any(choice.used in ("ffi", "native") for choice in choices)
    library = native.load(_LIBRARIES[platform]) if uses_native else None
    by_setting = {choice.setting: choice for choice in choices}
    return DataPath(library, by_setting, asked[-2][1], asked[-1][1])


def _missing(platform: str) -> str:
    """Why there is no native library; "" when there is one."""
    if platform not in _LIBRARIES:
        return f"there is no native library for {platform} devices"
    return native.missing_reason(_LIBRARIES[platform])


def _choose(setting: str, value: str, platform: str, missing: str) -> Choice:
    with_library, without = _AUTO[setting]
    name = _name(setting, value)
    if setting == "linear" and platform != _LINEAR_PLATFORM:
        missing = f"there are no native linear layers for {platform} devices"
    if value != settings.AUTO:
        if value == with_library and missing:
            raise errors.NativeError(f"{name}: {missing}")
        return Choice(name, value, "asked for")
    if missing:
        return Choice(name, without, missing)
    return Choice(name, with_library, f"the native library for {platform} is there")


def _name(setting: str, value: str) -> str:
    return f"{_HEADS[setting]}.{setting}={value}"
