"""What the reference said of a case, as a file, and the weights that both sides draw alike.

Knows: npz files, names and shapes of tensors. Does not know: either implementation.

Weights are not stored: each tensor follows from the case's name and its own, by the stream of
PCG64, which numpy keeps the same for ever.
"""

from __future__ import annotations

import dataclasses
import pathlib
import zlib

import numpy as np

from tests.parity import cases

NEAR_TIE = 1e-3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The reference's answer. Letters: prompt `[p]`, new tokens `[n]`."""

    case: str  # `Case.text` of the case that it was made for
    config: str  # config.json, as the reference writes it
    prompt: np.ndarray  # [p] int32
    tokens: np.ndarray  # [n] int32, greedy
    gaps: np.ndarray  # [n] float32, of the two best logits at each new token
    logits: np.ndarray  # [p + n - 1, vocab] float32, after every position that was fed

    @property
    def near_tie(self) -> int:
        """The first new token whose two best logits differ by less than `NEAR_TIE`; n: none."""
        near = np.flatnonzero(self.gaps < NEAR_TIE)
        return int(near[0]) if near.size else len(self.gaps)

    def save(self, path: pathlib.Path) -> None:
        """Writes the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **dataclasses.asdict(self))


def read(path: pathlib.Path) -> Golden:
    """The file at `path`. Texts come back as texts."""
    with np.load(path, allow_pickle=False) as file:
        texts = {name: str(file[name]) for name in ("case", "config")}
        arrays = {name: file[name] for name in ("prompt", "tokens", "gaps", "logits")}
    return Golden(**texts, **arrays)


def prompt(case: cases.Case, vocab: int) -> np.ndarray:
    """The case's prompt, `[PROMPT_TOKENS]` int32."""
    return (_uniform(case.name, "prompt", cases.PROMPT_TOKENS) * vocab).astype(np.int32)


def weights(case_name: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor `name` of a checkpoint, float32, such that logits spread and depend on the past.

    Matrices `[..., out, in]` keep the size of what they are applied to. Queries and keys are
    larger, so that attention chooses, and what is last normed, so that the best tokens seldom tie.
    """
    spread = np.sqrt(3.0) * (2.0 * _uniform(case_name, name, int(np.prod(shape))) - 1.0)
    spread = spread.reshape(shape)  # mean 0, variance 1
    kind = name.split(".")[-2]
    if len(shape) > 1:
        gain = 2.0 if kind in ("q_proj", "k_proj") else 1.0
        return (gain * shape[-1] ** -0.5 * spread).astype(np.float32)
    middle = 0.0  # of a bias
    if "norm" in kind and name.endswith(".weight"):
        middle = 1.5 if kind in ("q_norm", "k_norm") else 1.0 if ".layers." in name else 4.0
    return (middle + 0.2 * spread).astype(np.float32)


def _uniform(case_name: str, name: str, count: int) -> np.ndarray:
    """Float64 in [0, 1)."""
    stream = np.random.PCG64([zlib.crc32(case_name.encode()), zlib.crc32(name.encode())])
    return (stream.random_raw(count) >> np.uint64(11)) * 2.0**-53
