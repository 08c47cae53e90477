"""What `transformers` makes of a case: the only file that imports it.

Knows: torch, transformers. Does not know: this project's models.

The model goes through a checkpoint's files, so names and shapes of tensors are those that
published checkpoints have, however the library keeps them in memory.
"""

from __future__ import annotations

import pathlib

import numpy as np
import safetensors.numpy
import torch
import transformers

from tests.parity import cases, golden

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)  # tiny models lose by more


def answer(case: cases.Case, folder: pathlib.Path) -> golden.Golden:
    """Runs the case: prompt, greedy tokens, logits at all positions, in float32 on the CPU.

    Leaves the model's checkpoint in the empty `folder`.
    """
    model = _model(case, folder)
    vocab = model.config.vocab_size
    prompt = golden.prompt(case, vocab)
    ids = prompt.tolist()
    for _ in range(cases.NEW_TOKENS):
        ids.append(int(_logits(model, ids)[-1].argmax()))
    logits = _logits(model, ids[:-1])
    best = np.sort(logits[len(prompt) - 1 :], axis=-1)[:, -2:]
    return golden.Golden(
        case=case.text,
        config=(folder / "config.json").read_text(encoding="utf-8"),
        prompt=prompt,
        tokens=np.asarray(ids[len(prompt) :], np.int32),
        gaps=best[:, 1] - best[:, 0],
        logits=logits,
    )


def _model(case: cases.Case, folder: pathlib.Path) -> transformers.PreTrainedModel:
    config = getattr(transformers, case.config)(**case.fields)
    drawn = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    drawn.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {
        name: golden.weights(case.name, name, tensor.shape)
        for name, tensor in safetensors.numpy.load_file(path).items()
    }
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {what: names for what, names in info.items() if names}
    assert not wrong, f"{case.name}: the reference does not load what it wrote: {wrong}"
    return model.eval()


def _logits(model: transformers.PreTrainedModel, ids: list[int]) -> np.ndarray:
    """`[ids, vocab]` float32, all at once."""
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()
