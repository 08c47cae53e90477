"""Trains the small model of the repository, `models/tiny_text`, on stories out of a grammar.

A byte-level Llama of 2.97 million weights, of the shape that other runs call `demo`, on 2.8 million
bytes, none of them seen twice. Needs the extra `train`. Ctrl-C leaves nothing behind; the folder
appears whole at the end, in Hugging Face layout.

Command: `python -m aqua_jax.run --config=configs/train_tiny_text.py --config.target=out/tiny_text`
Hardware: any; written for a CPU.
Time: 17 minutes on 2 cores of an AMD EPYC that others used as well.
Expect: 0.23 bits a byte.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import overrides
from models import tiny_text


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.task_config_dict(tiny_text.TrainTinyText())
