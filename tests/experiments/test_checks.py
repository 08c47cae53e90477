"""Each check lets through what is right and says in one line what is not."""

from __future__ import annotations

import types

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import checks

VALUE = types.SimpleNamespace(zero=0, three=3, nan=float("nan"), infinite=float("inf"))


def test_what_is_right_passes():
    checks.at_least("head", VALUE, 0, "zero", "three")
    checks.above("head", VALUE, "three")
    checks.multiple("head", VALUE, 3, "three")
    checks.one_of("mover", "xla", ("xla", "ffi"))
    checks.policy("cfs")
    checks.arms("", ["a", "b"], {"a": {}, "b": {}})


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.at_least("h", VALUE, 1, "zero"), "h.zero is 0; give a number of at least"),
        (lambda: checks.at_least("h", VALUE, 1, "nan"), "h.nan is nan; give"),
        (lambda: checks.above("h", VALUE, "three", "infinite"), "h.infinite is inf; give a finite"),
        (lambda: checks.multiple("h", VALUE, 2, "three"), "h.three is 3; give a multiple of 2"),
        (
            lambda: checks.one_of("mover", "xlb", ("xla",)),
            "unknown mover 'xlb' .did you mean",
        ),
        (lambda: checks.policy("csf"), "unknown policy.name 'csf' .did you mean 'cfs'"),
        (lambda: checks.arms("", [], {}), "there are no arms to run"),
        (lambda: checks.arms("a,a", ["a", "a"], {"a": {}}), "arm 'a' is named twice in arms=a,a"),
        (lambda: checks.arms("b", ["b"], {"a": {}}), "unknown arm 'b'"),
    ],
)
def test_what_is_wrong_is_said(check, message):
    with pytest.raises(errors.ConfigError, match=message):
        check()
