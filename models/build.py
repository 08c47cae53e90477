"""Models by name, for configs: random weights of a known shape."""

from __future__ import annotations

from models import llama, shapes


def random_llama(name: str, seed: int) -> llama.CausalLlama:
    """The Llama of shape `name` with weights drawn from `seed`. Raises ConfigError for a wrong name."""
    return llama.CausalLlama(shapes.by_name(name), seed=seed)
