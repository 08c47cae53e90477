"""Shapes of the Llama family: plain facts, each with its source. No weights, no jax.

Sources of the public models are the `config.json` files published with their weights.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import errors


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Llama 3's stretching of RoPE to long contexts (`rope_scaling`, `rope_type: llama3`)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinearRopeScaling:
    """All frequencies divided by `factor` (arXiv 2306.15595, `rope_type: linear`)."""

    factor: float


AnyRopeScaling = RopeScaling | LinearRopeScaling


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture in place of every layer's FFN: `active` of `count` experts for each token.

    is_sum_one: the shares of the active ones are scaled to sum to 1; else they are what the
    router's softmax over all experts gives them.
    """

    count: int
    active: int
    is_sum_one: bool = True

    def __post_init__(self) -> None:
        if self.active > self.count:
            raise errors.ConfigError(
                f"{self.active} active experts of {self.count}: expected at most {self.count}"
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """One decoder: `heads` queries share `kv_heads` keys and values; SwiGLU of width `ffn`.

    qkv_bias: added to queries, keys and values (Qwen2); out_bias: to what attention gives;
    mlp_bias: to gate, up and down. qk_norm: RMSNorm of every query and key over head_dim, before
    they are rotated (Qwen3). windows: of each layer, as in `forward.ModelFacts`; empty: none has
    one. experts: each of width `ffn`; None: one FFN for all.
    """

    name: str
    source: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    rope_theta: float = 10_000.0
    rope_scaling: AnyRopeScaling | None = None
    norm_epsilon: float = 1e-5
    tied_embeddings: bool = False
    context_tokens: int = 4096
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    windows: tuple[int, ...] = ()
    experts: Experts | None = None

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise errors.ConfigError(
                f"shape {self.name!r} has {self.heads} heads over {self.kv_heads} kv_heads: "
                "heads must be a multiple of kv_heads"
            )
        if self.head_dim % 2:
            raise errors.ConfigError(
                f"shape {self.name!r}: head_dim is {self.head_dim}: expected an even number, for "
                "RoPE turns pairs of dimensions"
            )

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.heads // self.kv_heads

    @property
    def weights(self) -> int:
        """Weights in all, norms and biases included."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        attention += self.qkv_bias * (self.heads + 2 * self.kv_heads) * self.head_dim
        attention += self.out_bias * self.hidden + self.qk_norm * 2 * self.head_dim
        mlp = 3 * self.hidden * self.ffn + self.mlp_bias * (2 * self.ffn + self.hidden)
        if self.experts is not None:
            mlp = self.experts.count * (3 * self.hidden * self.ffn + self.hidden)
        layer = attention + mlp + 2 * self.hidden
        ends = self.vocab * self.hidden * (1 if self.tied_embeddings else 2) + self.hidden
        return self.layers * layer + ends


def by_name(name: str) -> LlamaShape:
    """The shape called `name`. Raises ConfigError with the nearest name when there is none."""
    if name not in SHAPES:
        raise errors.ConfigError(f"no model shape {name!r}{errors.close_match(name, SHAPES)}")
    return SHAPES[name]


# Four KV heads, so that up to four tensor-parallel shards can be tested.
TINY = LlamaShape(
    name="tiny",
    source="made for tests",
    layers=2,
    hidden=64,
    ffn=96,
    heads=8,
    kv_heads=4,
    head_dim=8,
    vocab=128,
    context_tokens=512,
)

# The shape at which other engines' CPU throughput was measured.
DEMO = LlamaShape(
    name="demo",
    source="made for runs on a small CPU machine",
    layers=4,
    hidden=256,
    ffn=688,
    heads=8,
    kv_heads=4,
    head_dim=32,
    vocab=512,
    context_tokens=2048,
)

# The same with the head_dim of most published models, in which Qwen3 differs from Llama.
DEMO_128 = dataclasses.replace(DEMO, name="demo-128", head_dim=128, qk_norm=True)

LLAMA_100M = LlamaShape(
    name="100m",
    source="made to compare engines: 100 million weights",
    layers=12,
    hidden=768,
    ffn=2048,
    heads=12,
    kv_heads=4,
    head_dim=64,
    vocab=32_000,
    tied_embeddings=True,
    context_tokens=2048,
)

LLAMA_500M = LlamaShape(
    name="500m",
    source="made to compare engines: 500 million weights",
    layers=24,
    hidden=1280,
    ffn=3456,
    heads=20,
    kv_heads=4,
    head_dim=64,
    vocab=32_000,
    context_tokens=2048,
)

LLAMA_3_2_1B = LlamaShape(
    name="llama-3.2-1b",
    source="huggingface.co/meta-llama/Llama-3.2-1B config.json",
    layers=16,
    hidden=2048,
    ffn=8192,
    heads=32,
    kv_heads=8,
    head_dim=64,
    vocab=128_256,
    rope_theta=500_000.0,
    rope_scaling=RopeScaling(
        factor=32.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context_tokens=8192,
    ),
    tied_embeddings=True,
    context_tokens=131_072,
)

LLAMA_3_1_8B = LlamaShape(
    name="llama-3.1-8b",
    source="huggingface.co/meta-llama/Llama-3.1-8B config.json",
    layers=32,
    hidden=4096,
    ffn=14_336,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocab=128_256,
    rope_theta=500_000.0,
    rope_scaling=RopeScaling(
        factor=8.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context_tokens=8192,
    ),
    context_tokens=131_072,
)

CODELLAMA_34B = LlamaShape(
    name="codellama-34b",
    source="huggingface.co/codellama/CodeLlama-34b-hf config.json",
    layers=48,
    hidden=8192,
    ffn=22_016,
    heads=64,
    kv_heads=8,
    head_dim=128,
    vocab=32_000,
    rope_theta=1_000_000.0,
    context_tokens=16_384,
)

SHAPES = {
    shape.name: shape
    for shape in (
        TINY, DEMO, DEMO_128, LLAMA_100M, LLAMA_500M, LLAMA_3_2_1B, LLAMA_3_1_8B, CODELLAMA_34B,
    )
}  # fmt: skip
