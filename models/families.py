"""The architectures that a `config.json` may name, and what it takes to run each.

Knows: which file of `models/` is whose. Does not know: weights' files, devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from aqua_jax.control import errors
from models import (
    config_json,
    decoder,
    gemma,
    gemma_files,
    hf_leaves,
    llama,
    llama_files,
    opt,
    opt_files,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One or several architectures that share their code.

    architectures: as `config.json` names them. shape: what the file says, as the family's frozen
    shape; raises ConfigError for a field that it cannot honour, by name. causal: (shape, seed=,
    dtype=, params=) -> the model. leaves: of a shape, where each of our leaves comes from.
    """

    architectures: tuple[str, ...]
    shape: Callable[[config_json.Fields], Any]
    causal: Callable[..., decoder.CausalDecoder]
    leaves: Callable[[Any], hf_leaves.Leaves]


# What there is in place of architectures that are not run.
_INSTEAD = {
    "Gemma3ForConditionalGeneration": "images are not read; its text model alone is: a checkpoint "
    "of Gemma3ForCausalLM, such as gemma-3-1b or gemma-3-270m",
}

FAMILIES = (
    Family(
        architectures=llama_files.ARCHITECTURES,
        shape=llama_files.from_config,
        causal=llama.causal,
        leaves=llama_files.leaves,
    ),
    Family(
        architectures=(llama_files.MIXTRAL,),
        shape=llama_files.from_config,
        causal=llama.causal,
        leaves=llama_files.mixtral_leaves,
    ),
    Family(
        architectures=(llama_files.QWEN3_MOE,),
        shape=llama_files.from_config,
        causal=llama.causal,
        leaves=llama_files.qwen3_moe_leaves,
    ),
    Family(
        architectures=gemma_files.ARCHITECTURES,
        shape=gemma_files.from_config,
        causal=gemma.causal,
        leaves=gemma_files.leaves,
    ),
    Family(
        architectures=opt_files.ARCHITECTURES,
        shape=opt_files.from_config,
        causal=opt.causal,
        leaves=opt_files.leaves,
    ),
)


def of(fields: config_json.Fields) -> Family:
    """The family of a `config.json`. Raises ConfigError, naming those that there are."""
    by_name = {name: family for family in FAMILIES for name in family.architectures}
    name = fields.architecture
    if name not in by_name:
        hint = _INSTEAD.get(name)
        hint = f": {hint}" if hint else errors.close_match(name, by_name)
        raise errors.ConfigError(f"{fields.path}: architectures is [{name!r}]{hint}")
    return by_name[name]
