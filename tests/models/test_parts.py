"""Parts of blocks by their formulas."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from models import parts, shapes


def test_long_wavelengths_are_stretched_and_short_ones_kept():
    plain = parts.rope_frequencies(shapes.TINY.head_dim, shapes.TINY.rope_theta)
    assert plain[0] == 1.0
    assert [b / a for a, b in itertools.pairwise(plain)] == pytest.approx([0.1] * 3)
    shape = shapes.LLAMA_3_1_8B
    stretched = parts.rope_frequencies(shape.head_dim, shape.rope_theta, shape.rope_scaling)
    ratios = np.asarray(stretched) / parts.rope_frequencies(shape.head_dim, shape.rope_theta)
    assert ratios[0] == 1
    assert ratios[-1] == pytest.approx(1 / 8)
    assert (np.diff(ratios) <= 1e-12).all()


@pytest.mark.parametrize("from_one", [False, True])
def test_rms_norm_is_that_of_the_paper(from_one):
    random = np.random.default_rng(0)
    x, scale = random.normal(size=(5, 3, 8)), random.normal(size=8)
    factors = 1 + scale if from_one else scale
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * factors
    made = parts.rms_norm(
        jnp.asarray(x, jnp.float32), jnp.asarray(scale, jnp.float32), 1e-5, from_one=from_one
    )
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_layer_norm_is_that_of_the_paper():
    random = np.random.default_rng(0)
    x, scale, bias = random.normal(3.0, size=(5, 8)), random.normal(size=8), random.normal(size=8)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    made = parts.layer_norm(
        *(jnp.asarray(given, jnp.float32) for given in (x, scale, bias)), epsilon=1e-5
    )
    np.testing.assert_allclose(made, expected * scale + bias, atol=1e-5)
