"""What `auto` comes to with and without a library, and what is refused without one."""

from __future__ import annotations

import dataclasses
import re

import jax.numpy as jnp
import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import data_path, overrides, settings
from aqua_jax.loops import forward
from aqua_jax.memory import native
from tests.experiments import tiny

MISSING = "the native library for cpu is not built: run `make native`"


class _Library:
    """Stands for a loaded one."""

    def __init__(self, path) -> None:
        self.path = path


@pytest.fixture
def present(monkeypatch, tmp_path) -> _Library:
    """A machine that has the library of the CPU."""
    library = _Library(tmp_path / "lib.so")
    library.path.write_bytes(b"one build")
    monkeypatch.setattr(native, "missing_reason", lambda platform: "")
    monkeypatch.setattr(native, "load", lambda platform: library)
    return library


@pytest.fixture
def absent(monkeypatch) -> None:
    """A machine without."""

    def load(platform: str) -> native.Library:
        raise AssertionError("nothing native is used")

    monkeypatch.setattr(native, "missing_reason", lambda platform: MISSING)
    monkeypatch.setattr(native, "load", load)


def arms(*memories: dict[str, str], linear: str = "auto") -> list[settings.Experiment]:
    arm_settings = {
        f"arm{i}": {"memory": memory, "engine": {"linear": linear}}
        for i, memory in enumerate(memories)
    }
    whole = tiny.with_arms(arm_settings)
    return [overrides.arm(whole, name) for name in whole.arm_names]


def test_auto_is_native_where_the_library_is(present):
    path = data_path.resolve(arms({}), "cpu")
    assert path.mover(arms({})[0].memory) == "ffi"
    assert (path.attention, path.linear) == ("native", "native")
    assert path.native_library is present
    assert path.sentence == (
        "memory.mover=ffi, memory.attention=native, engine.linear=native: the native library for"
        " cpu is there"
    )


@pytest.mark.usefixtures("absent")
def test_auto_goes_through_xla_without_it_and_says_how_to_get_it():
    path = data_path.resolve(arms({}), "cpu")
    assert path.mover(arms({})[0].memory) == "xla"
    assert (path.attention, path.linear, path.library) == ("xla", "xla", None)
    assert path.sentence == (
        f"memory.mover=xla, memory.attention=xla, engine.linear=xla: {MISSING}"
    )
    assert {choice.because for choice in path.choices.values()} == {MISSING}


@pytest.mark.usefixtures("absent")
def test_attending_away_without_it_is_refused_with_the_way_to_get_it():
    with pytest.raises(errors.NativeError, match=re.escape(f"memory.attend_away=long: {MISSING}")):
        data_path.resolve(arms({}, {"attend_away": "long"}), "cpu")


@pytest.mark.usefixtures("present")
def test_a_platform_that_nobody_builds_for_has_none():
    path = data_path.resolve(arms({}), "tpu")
    assert path.attention == "xla"
    assert "no native library for tpu devices" in path.sentence


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("memory", [{"mover": "ffi"}, {"attention": "native"}])
def test_what_is_asked_for_by_name_must_be_there(memory):
    ((setting, value),) = memory.items()
    with pytest.raises(errors.NativeError, match=re.escape(f"memory.{setting}={value}: {MISSING}")):
        data_path.resolve(arms(memory), "cpu")


def test_what_is_asked_for_by_name_is_used_and_nothing_is_said(present):
    memories = ({"mover": m, "attention": "xla"} for m in ("reference", "xla", "ffi"))
    named = arms(*memories, linear="xla")
    path = data_path.resolve(named, "cpu")
    assert [path.mover(arm.memory) for arm in named] == ["reference", "xla", "ffi"]
    assert path.sentence == ""
    assert list(path.choices) == [
        "memory.mover=reference", "memory.mover=xla", "memory.mover=ffi", "memory.attention=xla",
        "engine.linear=xla",
    ]  # fmt: skip
    assert {choice.because for choice in path.choices.values()} == {"asked for"}


@pytest.mark.usefixtures("absent")
def test_without_anything_native_nothing_is_loaded():
    path = data_path.resolve(arms({"mover": "xla", "attention": "xla"}, linear="xla"), "cpu")
    assert path.library is None


def test_linear_layers_are_native_on_cpu_alone(present):
    path = data_path.resolve(arms({}), "gpu")
    assert (path.attention, path.linear) == ("native", "xla")
    assert "engine.linear=xla: there are no native linear layers for gpu devices" in path.sentence
    with pytest.raises(errors.NativeError, match=r"engine.linear=native: there are no native lin"):
        data_path.resolve(arms({}, linear="native"), "gpu")


FACTS = forward.ModelFacts(
    name="odd", layers=1, hidden=12, kv_heads=1, group=1, head_dim=12, vocab=8, dtype=jnp.float32
)


def test_auto_gives_way_to_a_model_that_native_attention_cannot_compute(present):
    path = data_path.resolve(arms({}), "cpu")
    assert path.fitted(dataclasses.replace(FACTS, head_dim=16)) is path
    fitted = path.fitted(FACTS)
    assert (fitted.attention, fitted.mover(arms({})[0].memory)) == ("xla", "ffi")
    assert fitted.sentence.startswith(
        "memory.mover=ffi, engine.linear=native: the native library for cpu is there; "
    )
    assert "memory.attention=xla: native attention cannot compute model 'odd'" in fitted.sentence
    named = data_path.resolve(arms({"attention": "native"}), "cpu")
    with pytest.raises(errors.ConfigError, match="head_dim is 12"):
        named.fitted(FACTS)
    through_xla = data_path.resolve(arms({"attention": "xla"}), "cpu")
    assert through_xla.fitted(FACTS) is through_xla


def test_builds_are_told_apart(present):
    path = data_path.resolve(arms({}), "cpu")
    before = path.library_digest
    assert path.library_digest == before
    present.path.write_bytes(b"another build")
    assert path.library_digest != before
