"""Turns a model's folder from Hugging Face layout into orbax's, or back.

Command: `python -m aqua_jax.run --config=configs/convert.py --config.source=A --config.target=B`
Hardware: memory for the whole model; nothing is computed.
Time: about 10 s of processor time for each GB of bfloat16.
Expect: 1 new folder with the same weights bit for bit, config.json and tokenizer; orbax restores
in parallel. There and back again gives the tensors of the source.

`--config.layout=hf` writes Hugging Face layout whatever the source has: to halve a model with
`--config.dtype=bfloat16`, to cut it into other files with `--config.shard_bytes=1000000000`.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import overrides
from models import convert


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.task_config_dict(convert.Conversion())
