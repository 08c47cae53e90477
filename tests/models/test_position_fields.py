"""RoPE and windows under their old names and their new ones."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from models import config_json, position_fields, shapes

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
STRETCHED = shapes.RopeScaling(
    factor=8.0,
    low_frequency_factor=1.0,
    high_frequency_factor=4.0,
    original_context_tokens=8192,
)
LINEAR = shapes.LinearRopeScaling(factor=4.0)


def fields(**values):
    return config_json.Fields(values, "c.json")


@pytest.mark.parametrize(
    ("values", "theta", "scaling"),
    [
        ({}, 1e4, None),
        ({"rope_theta": 1e6, "rope_scaling": None}, 1e6, None),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 1e6, None),
        ({"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}}, 1e6, None),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 1e4, LINEAR),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5.0}},
            5.0,
            LINEAR,
        ),
        ({"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8192}}, 1e4, STRETCHED),
        ({"rope_scaling": LLAMA3, "max_position_embeddings": 8192}, 1e4, STRETCHED),
        (
            {
                "rope_parameters": {**LLAMA3, "rope_theta": 1e4},
                "max_position_embeddings": 65536,
                "original_max_position_embeddings": 8192,
            },
            1e4,
            STRETCHED,
        ),
    ],
)
def test_rope(values, theta, scaling):
    given = fields(**values)
    assert position_fields.rope(given) == (theta, scaling)
    given.refuse_rest()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            "rope_scaling.type is \"yarn\": expected 'default' or 'linear' or 'llama3'",
        ),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_scaling.rope_type is"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor is null: expected a num"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "type": "yarn"}},
            "rope_scaling.type is \"yarn\": expected 'linear'",
        ),
        (
            {"rope_parameters": {**LLAMA3, "beta_fast": 32}, "max_position_embeddings": 64},
            "rope_parameters.beta_fast is 32: expected no such field",
        ),
        (
            {"rope_parameters": {**LLAMA3, "low_freq_factor": 4.0}},
            "rope_parameters.low_freq_factor is 4.0: expected less than high_freq_factor, 4.0",
        ),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.25}},
            "rope_parameters.partial_rotary_factor is 0.25: expected 1.0",
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0}, "rope_scaling": {"type": "default"}},
            "rope_scaling is .*expected null beside rope_parameters",
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0}, "rope_theta": 6.0},
            "rope_theta is 6.0: expected 5.0, as inside rope_parameters",
        ),
        ({"rope_scaling": "linear"}, 'rope_scaling is "linear": expected an object'),
    ],
)
def test_rope_that_is_refused(values, message):
    with pytest.raises(errors.ConfigError, match=f"c.json: {message}"):
        position_fields.rope(fields(**values))


@pytest.mark.parametrize(
    ("values", "windows"),
    [
        ({}, (4096,) * 3),
        ({"sliding_window": None}, ()),
        ({"sliding_window": 7}, (7, 7, 7)),
    ],
)
def test_one_window_for_all(values, windows):
    assert position_fields.same_windows(fields(**values), 3) == windows


FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("values", "windows"),
    [
        ({"sliding_window": 7, "max_window_layers": 1}, ()),
        ({"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}, (0, 7, 7)),
        ({"use_sliding_window": True, "sliding_window": 7}, ()),
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, ()),
        ({"use_sliding_window": True, "max_window_layers": 2}, (0, 0, 4096)),
        (
            {"use_sliding_window": True, "sliding_window": 7, "layer_types": [SLIDING, FULL, FULL]},
            (7, 0, 0),
        ),
        ({"layer_types": [FULL] * 3, "sliding_window": None}, ()),
    ],
)
def test_windows_of_late_or_named_layers(values, windows):
    given = fields(**values)
    assert position_fields.late_windows(given, 3) == windows
    given.refuse_rest()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer_types": [FULL] * 2}, r"layer_types is .*expected 3 \(num_hidden_layers\) times"),
        ({"layer_types": [FULL, FULL, "linear_attention"]}, 'layer_types is "linear_attention"'),
        ({"layer_types": [SLIDING] * 3}, "sliding_window is null: expected a window in use"),
    ],
)
def test_windows_that_are_refused(values, message):
    with pytest.raises(errors.ConfigError, match=message):
        position_fields.late_windows(fields(**values), 3)
