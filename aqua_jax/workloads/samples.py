"""What some requests of a run were answered, in words.

Knows: records of arms, a function from ids to text. Does not know: models, tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from aqua_jax.workloads import records

Decode = Callable[[Sequence[int]], str]
SAME = "the same in all arms"


def table(
    runs: Sequence[records.RunRecord],
    prompts: Sequence[Sequence[int]],
    decode: Decode,
    *,
    count: int,
    eos_ids: Collection[int] = (),
) -> dict[str, dict[str, str]]:
    """Rows of `metrics.SAMPLE` by request, of those that all arms finished.

    count: how many, with the longest prompts and, of such, the longest answers. prompts: ids by
    request. An answer is shown up to the first of `eos_ids`. Where arms differ
    there is a row for each.
    """
    answers = [{r.id: tuple(r.token_ids) for r in run.requests if r.finished} for run in runs]
    shared = set.intersection(*(set(answered) for answered in answers))

    def rank(id: int) -> tuple[int, int, int]:
        return -len(prompts[id]), -len(_shown(answers[0][id], eos_ids)), id

    longest = sorted(shared, key=rank)
    rows: dict[str, dict[str, str]] = {}
    for id in sorted(longest[:count]):
        variants = {answered[id] for answered in answers}
        for run, answered in zip(runs, answers, strict=True):
            arm, name = (SAME, f"{id}") if len(variants) == 1 else (run.arm, f"{id}, {run.arm}")
            ids = _shown(answered[id], eos_ids)
            rows[name] = {"arm": arm, "prompt": decode(prompts[id]), "answer": decode(ids)}
    return rows


def _shown(ids: Sequence[int], eos_ids: Collection[int]) -> Sequence[int]:
    ends = [position for position, id in enumerate(ids) if id in eos_ids]
    return ids[: ends[0]] if ends else ids
