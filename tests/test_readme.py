"""README.md is true: its programs run and print what it shows, its commands and its tree exist.

Knows: README.md as text, the files git tracks. What the demo prints is not
compared: its figures are of one run.
"""

from __future__ import annotations

import os
import pathlib
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import ml_collections
import pytest

from aqua_jax.experiments import overrides

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
LIBRARY_LINES_MAX = 25
SHOWN_MAX_SECONDS = 120


class Block(NamedTuple):
    """A fenced block: its language, its text, and what stands between it and the one before."""

    language: str
    text: str
    lead: str


def read_blocks() -> Iterator[Block]:
    end = 0
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2], TEXT[end : found.start()].strip())
        end = found.end()


BLOCKS = list(read_blocks())
PROGRAMS = [block for block in BLOCKS if block.language == "python"]
LIBRARY = next(block for block in PROGRAMS if "import aqua_jax\n" in block.text)
CONFIG = next(block for block in PROGRAMS if "def get_config" in block.text)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.text.split("\n")[0][:20])
def test_a_program_prints_what_stands_below_it(program: Block, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(program.text)
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=SHOWN_MAX_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == shown_output(program)


def shown_output(program: Block) -> str:
    """The block after the program if the text between says that it prints it; else nothing."""
    after = BLOCKS[BLOCKS.index(program) + 1 :]
    if after and not after[0].language and after[0].lead.startswith("It prints"):
        return after[0].text
    return ""


def test_the_library_program_is_short_and_shows_that_pages_moved() -> None:
    lines = [line for line in LIBRARY.text.splitlines() if line.split("#")[0].strip()]
    assert len(lines) <= LIBRARY_LINES_MAX
    tight, ample = (line.split(maxsplit=2) for line in shown_output(LIBRARY).splitlines())
    assert (tight[1], ample[1]) == ("True", "False")
    assert tight[2] == ample[2]


def test_the_config_is_an_experiment_with_three_arms(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "quanta.py"
    file.write_text(CONFIG.text)
    config = runpy.run_path(str(file))["get_config"]()
    experiment = overrides.experiment(config)
    arms = [overrides.arm(experiment, name) for name in experiment.arm_names]
    assert [arm.policy.quantum_tokens for arm in arms] == [16, 64, 256]
    assert experiment.report.baselines in experiment.arm_names


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", TEXT, re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert {"demo", "test"} <= named <= targets


def test_runs_name_a_config_settings_and_arms_that_exist() -> None:
    commands = re.findall(r"^python -m aqua_jax\.run (.+)$", TEXT, re.MULTILINE)
    assert commands
    for command in commands:
        flags = dict(re.fullmatch(r"--([\w.]+)=(\S+)", word).groups() for word in command.split())
        config = runpy.run_path(str(ROOT / flags.pop("config")))["get_config"]()
        is_task = overrides.task_of(config) is not None  # which has no report
        assert is_task or flags.pop("workdir").startswith("out/")  # which git ignores
        for name, value in flags.items():
            set_value(config, name.removeprefix("config."), value)
        others = (overrides.task_of, overrides.fuzz_of, overrides.completion_of)
        if all(read(config) is None for read in others):  # which have no arms
            check_arms(overrides.simulated_of(config) or overrides.experiment(config))


def set_value(config: ml_collections.ConfigDict, path: str, value: str) -> None:
    """As `--config.path=value` does: the value gets the type of what it replaces."""
    *heads, last = path.split(".")
    for head in heads:
        config = config[head]
    assert last in config, f"the README names config.{path}"
    config[last] = type(config[last])(value)


def check_arms(experiment: overrides.Whole) -> None:
    """Each arm that is run builds; a wrong name or key raises."""
    for name in experiment.arm_names:
        overrides.arm(experiment, name)


def test_paths_in_the_text_exist() -> None:
    paths = re.findall(r"(?:`|\]\()((?:aqua_jax|configs|models|tests)/[\w/.]+|[A-Z]+\.md)", TEXT)
    assert len(paths) > 5
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_tree_is_the_tree() -> None:
    listing = next(block.text for block in BLOCKS if block.text.startswith("README.md "))
    listed = dict(read_tree(listing))
    assert all(listed.values()), "an entry without a purpose"
    files = tracked_files()
    inside = {"aqua_jax/" + top(path.removeprefix("aqua_jax/")) for path in files if is_own(path)}
    expected = {top(path) for path in files} | inside
    assert set(listed) == expected - {".ci/", ".gitignore"} | {".ci/run"}


def is_own(path: str) -> bool:
    return path.startswith("aqua_jax/")


def top(path: str) -> str:
    """The file, or the first folder with its slash: what one line of the tree stands for."""
    head, slash, _ = path.partition("/")
    return head + slash


def read_tree(listing: str) -> Iterator[tuple[str, str]]:
    """(path, purpose) of each line; two spaces of indentation are one folder."""
    folder = ""
    for line in listing.splitlines():
        name, _, purpose = line.strip().partition(" ")
        if line.startswith("  "):
            yield folder + name, purpose.strip()
        else:
            folder = name
            yield name, purpose.strip()


def tracked_files() -> list[str]:
    """What git tracks or would track: results and caches are left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the tree may hold anything")
    return [path for path in listed.stdout.splitlines() if (ROOT / path).exists()]
