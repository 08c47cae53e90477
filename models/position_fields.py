"""What `config.json` says of positions: how they are rotated in, how far back a layer sees.

Knows: the fields' old names and new ones. Does not know: any family's other fields.
"""

from __future__ import annotations

from typing import Any

from models import config_json, shapes

_FULL, _SLIDING = "full_attention", "sliding_attention"


def rope(
    fields: config_json.Fields, *, theta: float = 10_000.0
) -> tuple[float, shapes.AnyRopeScaling | None]:
    """RoPE's base and scaling, of `rope_parameters` or, older, `rope_theta` and `rope_scaling`.

    theta: the base where none is given. Raises ConfigError for a scaling that is not supported and
    for fields that contradict each other.
    """
    fields.expect("partial_rotary_factor", 1.0)
    context = fields.integer("max_position_embeddings", 0, least=0)
    context = fields.integer("original_max_position_embeddings", context, least=0)
    given = fields.number("rope_theta", theta)
    new, old = fields.inner("rope_parameters"), fields.inner("rope_scaling")
    if new is not None and old is not None:
        raise fields.wrong(
            "rope_scaling", fields.raw("rope_scaling"), "null beside rope_parameters"
        )
    inner = new or old
    if inner is None:
        return given, None
    found = rope_of(inner, theta=given, context_tokens=context)
    if fields.has("rope_theta") and found[0] != given:
        raise fields.wrong("rope_theta", given, f"{found[0]}, as inside rope_parameters")
    return found


def rope_of(
    inner: config_json.Fields, *, theta: float, context_tokens: int
) -> tuple[float, shapes.AnyRopeScaling | None]:
    """The same of one object alone: `rope_parameters`, or what stands in it for a kind of layer.

    context_tokens: that the model was first trained for, where the object does not say.
    """
    inner.expect("partial_rotary_factor", 1.0)
    theta = inner.number("rope_theta", theta)
    named = "type" if inner.has("type") and not inner.has("rope_type") else "rope_type"
    inner.expect("type", inner.raw(named))
    inner.expect(named, "default", "linear", "llama3")
    kind = inner.raw(named) or "default"
    scaling: shapes.AnyRopeScaling | None = None
    if kind == "linear":
        scaling = shapes.LinearRopeScaling(factor=inner.number("factor"))
    elif kind == "llama3":
        scaling = _llama3(inner, context_tokens)
    else:
        inner.ignore(("factor",))
    inner.refuse_rest()
    return theta, scaling


def same_windows(fields: config_json.Fields, layers: int) -> tuple[int, ...]:
    """Mistral's: `sliding_window` for every layer, null for none, absent for 4096."""
    absent = 0 if fields.has("sliding_window") else 4096
    window = fields.integer("sliding_window", absent, least=0)
    return (window,) * layers if window else ()


def late_windows(fields: config_json.Fields, layers: int) -> tuple[int, ...]:
    """Qwen's: `use_sliding_window` says whether there are any.

    They are of the layers that `layer_types` names or, without it, from `max_window_layers` on.
    """
    late = fields.integer("max_window_layers", 28, least=0)
    absent = 0 if fields.has("sliding_window") else 4096
    window = fields.integer("sliding_window", absent, least=0)
    if not fields.flag("use_sliding_window", False):
        window = 0
    kinds = layer_types(fields, layers)
    if kinds is None:
        kinds = tuple(_SLIDING if window and i >= late else _FULL for i in range(layers))
    return typed_windows(fields, kinds, window)


def layer_types(fields: config_json.Fields, layers: int) -> tuple[str, ...] | None:
    """`layer_types`, one a layer; None where it is absent."""
    kinds = fields.raw("layer_types")
    if kinds is None:
        return None
    wanted = f"{layers} (num_hidden_layers) times {_FULL!r} or {_SLIDING!r}"
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise fields.wrong("layer_types", kinds, wanted)
    for kind in kinds:
        if kind not in (_FULL, _SLIDING):
            raise fields.wrong("layer_types", kind, wanted)
    return tuple(kinds)


def typed_windows(
    fields: config_json.Fields, kinds: tuple[str, ...], window: int
) -> tuple[int, ...]:
    """`window` for each layer that slides, 0 for the others; empty where none does."""
    if _SLIDING not in kinds:
        return ()
    if not window:
        said: Any = fields.raw("sliding_window")
        raise fields.wrong("sliding_window", said, f"a window in use: layer_types has {_SLIDING!r}")
    return tuple(window if kind == _SLIDING else 0 for kind in kinds)


def _llama3(inner: config_json.Fields, context_tokens: int) -> shapes.RopeScaling:
    low, high = inner.number("low_freq_factor"), inner.number("high_freq_factor")
    if low >= high:
        raise inner.wrong("low_freq_factor", low, f"less than high_freq_factor, {high}")
    return shapes.RopeScaling(
        factor=inner.number("factor"),
        low_frequency_factor=low,
        high_frequency_factor=high,
        original_context_tokens=inner.integer(
            "original_max_position_embeddings", context_tokens or None
        ),
    )
