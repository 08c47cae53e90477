"""Random runs over batches: what is counted, which failure is named, what the report says."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import fuzzing
from aqua_jax.simulation.fuzz import servers, verdict, whole


def fail_at(patch: pytest.MonkeyPatch, *seeds: int) -> None:
    """A run takes a second and breaks a promise at these seeds."""

    def run(server: servers.Server) -> verdict.Report:
        verdict.promise(server.seed not in seeds, f"{server.seed} is wrong")
        report = verdict.Report(seconds=1.0)
        report.counts["runs"] += 1
        return report

    patch.setattr(whole, "run", run)


def run(fuzz: fuzzing.Fuzz) -> tuple[fuzzing.Result, list[str]]:
    said: list[str] = []
    result = fuzzing.run(
        fuzz, on_done=lambda done: said.append(f"{done.name}: {done.text}"), stopped=lambda: False
    )
    return result, said


def test_seeds_that_pass_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch)
    result, said = run(fuzzing.Fuzz(seeds=25, first_seed=3, workers=1))
    assert (result.seeds, result.seconds, result.failure) == (25, 25.0, None)
    assert said == ["seeds 3 to 12: pass", "seeds 13 to 22: pass", "seeds 23 to 27: pass"]
    value = fuzzing.report(fuzzing.Fuzz(), result, config={"seeds": 25})
    assert value["evidence"] == "simulated"
    assert value["fuzz"]["counts"] == {"runs": 25}
    assert value["fuzz"]["failure"] is None


def test_the_first_seed_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 14, 15, 31)
    result, said = run(fuzzing.Fuzz(seeds=100, workers=1))
    assert said == ["seeds 0 to 9: pass", "seeds 10 to 19: seed 14 fails"]
    assert result.failure is not None
    assert result.failure.seed == 14
    assert result.failure.what == "BrokenPromiseError: 14 is wrong"
    assert "verdict.promise(" in result.failure.trace
    value = fuzzing.report(fuzzing.Fuzz(), result, config={})
    assert value["fuzz"]["failure"] == {"seed": 14, "what": result.failure.what}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"seeds": 0}, "seeds is 0; give at least 1"),
        ({"first_seed": -1}, "first_seed is -1; give at least 0"),
    ],
)
def test_settings_that_cannot_be_are_named(wrong: dict[str, int], text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        fuzzing.Fuzz(**wrong)
