"""Shapes: the published numbers of weights, and names."""

from __future__ import annotations

import dataclasses

import pytest

from aqua_jax.control import errors
from models import shapes


# Weights as the published safetensors files count them.
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
        ("codellama-34b", 33_743_970_304),
    ],
)
def test_weights_of_public_models(name, weights):
    assert shapes.by_name(name).weights == weights


def test_a_mistyped_name_gets_a_hint():
    with pytest.raises(errors.ConfigError, match=r"did you mean 'llama-3\.1-8b'"):
        shapes.by_name("llama-3.1-8")


def test_heads_are_a_multiple_of_kv_heads():
    with pytest.raises(errors.ConfigError, match="6 heads over 4 kv_heads"):
        dataclasses.replace(shapes.TINY, heads=6)
