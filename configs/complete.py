"""Goes on from a prompt, with a model from a folder: text to the terminal as it comes.

Command: `python -m aqua_jax.run --config=configs/complete.py --config.prompt="Once upon a time"`;
another model: `--config.model.path=DIR`, a folder in Hugging Face layout with its tokenizer.json.
Further: `--config.chat=True` makes the prompt a user's message in the model's chat template,
`--config.prompts_file=FILE` takes many at once, `--config.max_tokens`, `--config.stop` (a text or a
JSON list), `--config.sampling.temperature`, `top_p`, `seed` and others.
Hardware: any. Time: 10 s on 2 cores, most of it compiling, 5 s where that was done before.
Expect: up to 128 tokens of text; completions.jsonl beside it (default --workdir=out/complete).
"""

from __future__ import annotations

import ml_collections

from aqua_jax.control import types
from aqua_jax.experiments import completion_settings, overrides, settings
from models import build


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.completion_config_dict(
        completion_settings.CompletionSettings(
            model=settings.ModelSettings(build=build.causal, name="tiny", path="models/tiny_text"),
            prompt="Once upon a time",
            engine=settings.EngineSettings(lanes=8, units_max=2048, steps_max=4),
            memory=settings.MemorySettings(
                pool_pages=257,
                tiers={"host": settings.TierSettings(kind="host", bytes=256 * types.MIB)},
                probe="off",  # the links of a run of seconds
            ),
        )
    )
