"""What a config of completions says: a model's folder, prompts, how to go on from them.

Knows: names, units, ranges. Does not know: flags, files. `overrides.py` lays command-line
values over it.
"""

from __future__ import annotations

import dataclasses
import json

from aqua_jax.control import errors
from aqua_jax.control.policies import base
from aqua_jax.experiments import checks, settings
from aqua_jax.loops import prompt


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen: as of `loops.prompt.TextPayload`, which says what each does.

    temperature: 0 is greedy. top_k: 0 keeps all. top_p: 1 keeps all. min_p: 0 keeps all.
    repetition_penalty: 1 changes nothing. presence_penalty, frequency_penalty: 0 change nothing.
    min_tokens: so many come before an end of the model's can. seed: 32 bits.
    logprobs: -1: none; else how many of the likeliest tokens to report beside each.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_tokens: int = 0
    seed: int = 0
    logprobs: int = -1

    def __post_init__(self) -> None:
        checks.at_least("sampling", self, 0, "temperature", "top_k", "min_p", "min_tokens", "seed")
        checks.at_least("sampling", self, -1, "logprobs")
        checks.above("sampling", self, "top_p", "repetition_penalty")

    @property
    def options(self) -> prompt.Options:
        """For `loops.prompt.text_request`."""
        given = dataclasses.asdict(self)
        if self.logprobs < 0:
            del given["logprobs"]
        return prompt.Options(**given)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompletionSettings:
    """A whole config of completions.

    prompt: text to go on from. prompts_file: in its place many, one a line; of a `.jsonl`, objects
    with a `prompt` or with `messages`. chat: each prompt is a user's message in the model's chat
    template; system: a message before it. max_tokens: of each; fewer where the context ends. stop:
    a text that ends a completion, or a JSON list of such texts; include_stop: it is written too.
    ignore_eos: the model's own ends are none. devices: CPU devices to make.
    """

    model: settings.ModelSettings
    prompt: str = ""
    prompts_file: str = ""
    chat: bool = False
    system: str = ""
    max_tokens: int = 128
    stop: str = ""
    include_stop: bool = False
    ignore_eos: bool = False
    devices: int = 1
    sampling: SamplingSettings = dataclasses.field(default_factory=SamplingSettings)
    engine: settings.EngineSettings = dataclasses.field(default_factory=settings.EngineSettings)
    memory: settings.MemorySettings = dataclasses.field(default_factory=settings.MemorySettings)
    policy: base.PolicySettings = dataclasses.field(default_factory=base.PolicySettings)

    def __post_init__(self) -> None:
        checks.at_least("config", self, 1, "max_tokens", "devices")
        checks.policy(self.policy.name)
        if not self.model.path:
            raise errors.ConfigError(
                "model.path is empty: give a folder with a model and its tokenizer.json"
            )
        if self.system and not self.chat:
            raise errors.ConfigError("system is given without chat: set chat=True as well")
        _ = self.stops

    @property
    def stops(self) -> list[str]:
        """The texts of `stop`. Raises ConfigError for a list that is none of texts."""
        if not self.stop.startswith("["):
            return [self.stop] if self.stop else []
        try:
            stops = json.loads(self.stop)
        except ValueError as error:
            raise errors.ConfigError(f"stop is {self.stop!r}: no JSON list: {error}") from None
        if not all(isinstance(stop, str) and stop for stop in stops):
            raise errors.ConfigError(f"stop is {self.stop!r}: expected a JSON list of texts")
        return stops

    @property
    def experiment(self) -> settings.Experiment:
        """The machine that runs them, as an experiment with one arm says it."""
        return settings.Experiment(
            model=self.model,
            arm_settings={"complete": {}},
            devices=self.devices,
            engine=self.engine,
            memory=self.memory,
            policy=self.policy,
        )
