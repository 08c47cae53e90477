"""A task through settings and door: a folder of counted files, made whole or not at all."""

from __future__ import annotations

import dataclasses
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from aqua_jax import run
from aqua_jax.control import errors
from aqua_jax.experiments import overrides

CONFIG = """
from aqua_jax.experiments import overrides
from tests.experiments import test_task

def get_config():
    return overrides.task_config_dict(test_task.Count(target={target!r}))
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Counts to `steps` and writes it down; Ctrl-C comes at step `interrupted_at`."""

    target: str = ""
    steps: int = 20
    interrupted_at: int = 0

    @property
    def title(self) -> str:
        return f"counting to {self.steps}"

    def run(self, progress: Callable[[float, float, str], None]) -> Iterator[str]:
        beside = pathlib.Path(self.target + ".new")
        beside.touch()
        try:
            for done in range(1, self.steps + 1):
                if done == self.interrupted_at:
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                progress(done, self.steps, f"at {done}")
            yield f"counted: {self.target}"
            beside.rename(self.target)
        finally:
            beside.unlink(missing_ok=True)


def test_flags_change_its_settings() -> None:
    config = overrides.task_config_dict(Count())
    config.steps = 7
    assert overrides.task_of(config) == Count(steps=7)
    assert overrides.benchmark_of(config) is None
    with pytest.raises(errors.ConfigError, match="did you mean 'steps'"):
        overrides.check_key(config, "step", "7")


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    file = tmp_path / "count.py"
    file.write_text(CONFIG.format(target=str(tmp_path / "counted")))
    return f"--config={file}"


def test_the_door_says_what_it_does_how_far_it_is_and_what_came_of_it(config, tmp_path, capsys):
    assert run.main([config, "--config.steps=40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "counting to 40"
    assert lines[1:-1] == [f"{tenth}0% at {4 * tenth}" for tenth in range(1, 10)] + ["100% at 40"]
    assert lines[-1] == f"counted: {tmp_path / 'counted'}"
    assert (tmp_path / "counted").exists()


def test_a_task_takes_no_workdir(config, tmp_path, capsys):
    assert run.main([config, f"--workdir={tmp_path}"]) == 2
    assert "--workdir: this config writes no report; leave it out" in capsys.readouterr().err


def test_interrupted_it_leaves_nothing(config, tmp_path, capsys, monkeypatch):
    left = []
    monkeypatch.setattr(run.os, "_exit", left.append)  # the process would be gone
    run.main([config, "--config.steps=1000000000", "--config.interrupted_at=5"])
    assert left == [130]
    assert "aqua_jax.run: interrupted" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["count.py"]
