"""One plain sentence on what a run showed, with nothing in it that the numbers do not say.

Knows: a report's arms and comparisons. Does not know: how it is printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aqua_jax.workloads import quantities


def headline(report: Mapping[str, Any]) -> str:
    """The slowest first token, best candidate against best baseline, and whether answers agree."""
    arms: Mapping[str, Any] = report["arms"]
    if not arms:
        return "No arm ran."
    if best_swept(report):
        return "; ".join([_swept(report), _swept_answers(report["runs"])]) + "."
    candidate, baseline = contestants(report)
    parts = [_first_token(arms, candidate, baseline, report["evidence"]), _answers(arms)]
    parts += _caveats(report)
    return "; ".join(parts) + "."


def contestants(report: Mapping[str, Any]) -> tuple[str, str | None]:
    """(best candidate, best baseline) by their slowest first token; no baseline for one arm.

    The report has at least one arm.
    """
    arms = report["arms"]
    pairs = [name.split("/", 1) for name in report["comparisons"]]
    if not pairs:
        return _best(arms, list(arms)), None
    return _best(arms, [pair[0] for pair in pairs]), _best(arms, [pair[1] for pair in pairs])


def best_swept(report: Mapping[str, Any]) -> str:
    """The candidate of a sweep with the best first tokens p99 over all rates; "": there is none."""
    products: dict[str, float] = {}
    for arms in report.get("sweep", {}).values():
        for arm in arms:
            ratio = _p99_ratio(arms, arm)
            if ratio is not None:
                products[arm] = products.get(arm, 1.0) * ratio
    # Of equals the last: arms are named from the plain to the elaborate.
    return max(reversed(products), key=lambda arm: products[arm], default="")


def _swept(report: Mapping[str, Any]) -> str:
    """Its ratio at each rate."""
    best = best_swept(report)
    ratios = {rate: _p99_ratio(arms, best) for rate, arms in report["sweep"].items()}
    told = [
        f"{quantities.text(ratio, 'ratio')} {'' if rate[0].isalpha() else 'at '}{rate}"
        for rate, ratio in ratios.items()
        if ratio is not None
    ]
    windows = max(row["windows"] for arms in report["sweep"].values() for row in arms.values())
    over = f", medians over {windows} windows" if windows > 1 else ""
    return (
        f"First token p99 of the better baseline over that of {best}:"
        f" {', '.join(told)} ({report['evidence']}{over})"
    )


def _p99_ratio(arms: Mapping[str, Any], arm: str) -> float | None:
    ratios = arms.get(arm, {}).get("ratios", {})
    return ratios.get("ttft_p99_ratio", {}).get("median")


def _swept_answers(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether all arms of each window finished everything with the same answers."""
    for window, arms in runs.items():
        answers = _answers(arms)
        if len({arm["token_ids_sha256"] for arm in arms.values()}) > 1 or any(
            arm["finished"] < arm["requests"] for arm in arms.values()
        ):
            return f"{window}: {answers}"
    return f"all answers are identical in each of {len(runs)} windows"


def _best(arms: Mapping[str, Any], names: list[str]) -> str:
    def slowest(name: str) -> float:
        seconds = arms[name]["ttft_seconds"]["max"]
        return float("inf") if seconds is None else seconds

    return min(names, key=slowest)


def _first_token(
    arms: Mapping[str, Any], candidate: str, baseline: str | None, evidence: str
) -> str:
    seconds = arms[candidate]["ttft_seconds"]["max"]
    if seconds is None:
        return f"No first token arrived with {candidate} ({evidence})"
    sentence = "The slowest first token came after"
    if baseline is None:
        return f"{sentence} {quantities.text(seconds, 's')} ({candidate}, {evidence})"
    other = arms[baseline]["ttft_seconds"]["max"]
    ours, theirs = quantities.cells([seconds, other], "s")
    instead = theirs if other is not None else "never"
    return f"{sentence} {ours} instead of {instead} ({candidate} against {baseline}, {evidence})"


def _answers(arms: Mapping[str, Any]) -> str:
    """What is true of all arms' answers: identical, or what differs."""
    short = [
        f"{name} finished {arm['finished']} of {arm['requests']}"
        for name, arm in arms.items()
        if arm["finished"] != arm["requests"]
    ]
    if short:
        return ", ".join(short)
    first, *others = arms
    if not others:
        return f"all {arms[first]['requests']} requests finished"
    digest = arms[first]["token_ids_sha256"]
    different = [name for name in others if arms[name]["token_ids_sha256"] != digest]
    if different:
        return f"the answers of {', '.join(different)} differ from those of {first}"
    return f"all {arms[first]['requests']} answers are identical"


def _caveats(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the rest."""
    cut = [name for name, arm in report["arms"].items() if arm.get("interrupted")]
    late = {
        name: row["late_share"]
        for name, row in report.get("emulation", {}).items()
        if not row["valid"]
    }
    caveats = [f"{', '.join(cut)} was interrupted"] if cut else []
    caveats += [
        f"not valid: {quantities.text(share, 'share')} of the emulated times of {name} were late"
        for name, share in late.items()
    ]
    return caveats
