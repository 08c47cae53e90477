"""Writes what logits processors of transformers make of random logits: `python -m
tests.parity.make_processors`.

Needs the extra `parity`. `tests/loops/test_choosing.py` reads the file.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import transformers

from tests.parity import processors


def main() -> None:
    """Writes the golden file."""
    made = [{**case, "scores": _scores(case)} for case in processors.CASES]
    processors.PATH.write_text("[\n" + ",\n".join(map(json.dumps, made)) + "\n]\n")
    print(f"{len(made)} cases in {processors.PATH}, transformers {transformers.__version__}")


def _scores(case: dict[str, Any]) -> list[float | None]:
    """The processed logits, None for -inf. Greedy choice is their argmax, a draw their softmax."""
    ids = torch.tensor([[*case["prompt"], *case["output"]]])
    scores = torch.tensor(processors.logits(case))[None]
    for processor in _processors(case["options"], len(case["prompt"])):
        scores = processor(ids, scores)
    found = scores[0].double().tolist()
    return [None if value == float("-inf") else round(value, 6) for value in found]


def _processors(options: dict[str, Any], prompt: int) -> list[transformers.LogitsProcessor]:
    """In the order in which transformers itself applies them."""
    made: list[transformers.LogitsProcessor] = []
    if biases := options.get("logit_bias"):
        made.append(
            transformers.SequenceBiasLogitsProcessor([[[token], bias] for token, bias in biases])
        )
    if penalty := options.get("repetition_penalty"):
        made.append(transformers.RepetitionPenaltyLogitsProcessor(penalty))
    if least := options.get("min_tokens"):
        made.append(
            transformers.MinNewTokensLengthLogitsProcessor(prompt, least, options["stop_ids"])
        )
    for name, warper in (
        ("temperature", transformers.TemperatureLogitsWarper),
        ("top_k", transformers.TopKLogitsWarper),
        ("top_p", transformers.TopPLogitsWarper),
        ("min_p", transformers.MinPLogitsWarper),
    ):
        if name in options:
            made.append(warper(options[name]))
    return made


if __name__ == "__main__":
    main()
