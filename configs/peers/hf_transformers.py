"""HF transformers' continuous batching (`generate_batch`) as a peer of `configs/bench_peers.py`.

Runs in an environment of its own, with torch and transformers, and imports nothing of this project.
Reads one JSON object a line from stdin and answers each with one on stdout:

    {"model": DIR, "dtype": "float32", "threads": 2, "kv_tokens": 0,
     "requests": [{"prompt": [ids], "tokens": 64}]}         first -> {"versions": {...}}
    {}                                       once for every run -> {"seconds": x, "tokens": [[ids]]}

kv_tokens: that the KV cache holds; 0: enough for all requests.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
import transformers

# Its default, and what leaves less unused where memory is short. Were the number of pages left to
# it, it would take most of the machine's memory.
_PAGE_TOKENS, _SHORT_PAGE_TOKENS = 256, 32


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever the library prints
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, job["dtype"])
    ).eval()
    _say(
        answers,
        {"versions": {"transformers": transformers.__version__, "torch": torch.__version__}},
    )
    for _ in sys.stdin:
        _say(answers, _run(model, job))


def _run(model: Any, job: dict[str, Any]) -> dict[str, Any]:
    """One run of all requests at once. All ask for the same number of tokens."""
    prompts = [request["prompt"] for request in job["requests"]]
    (count,) = {request["tokens"] for request in job["requests"]}
    generation = transformers.GenerationConfig(
        max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    page_tokens = _SHORT_PAGE_TOKENS if job["kv_tokens"] else _PAGE_TOKENS
    whole = sum(-(-(len(prompt) + count) // page_tokens) for prompt in prompts)
    pages = job["kv_tokens"] // page_tokens or whole
    batching = transformers.ContinuousBatchingConfig(page_size=page_tokens, num_blocks=pages)
    begin = time.perf_counter()
    made = model.generate_batch(
        prompts,
        generation_config=generation,
        continuous_batching_config=batching,
        persistent_manager=True,
    )
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "tokens": [one.generated_tokens for one in made.values()]}


def _say(answers: Any, value: dict[str, Any]) -> None:
    print(json.dumps(value), file=answers, flush=True)


if __name__ == "__main__":
    main()
