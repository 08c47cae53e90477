"""Completions through the door: text as it comes, figures apart from it, wrong input in a line."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from aqua_jax import run
from tests.experiments import tiny_text
from tests.tokens import chat_cases

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "--config=configs/complete.py"
SMALL = ["--config.engine.units_max=128", "--config.memory.pool_pages=33"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny_text.write(tmp_path_factory.mktemp("door") / "model")


def start(model: pathlib.Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Its output in bytes: a model may write what a text stream would change."""
    command = [sys.executable, "-m", "aqua_jax.run", CONFIG, *SMALL, "--config.ignore_eos=True"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(
        [*command, f"--config.model.path={model}", *arguments],
        cwd=ROOT,
        env=environment
        | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONIOENCODING": "utf-8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_output_is_the_text_and_all_else_goes_elsewhere(model, tmp_path):
    """A prompt that begins with a dash and holds what looks like a flag is a prompt."""
    process = start(
        model, "--config.prompt=-a --b=c", "--config.max_tokens=9", f"--workdir={tmp_path}"
    )
    out, err = (stream.decode() for stream in process.communicate(timeout=200))
    assert process.returncode == 0, err
    (line,) = (tmp_path / "completions.jsonl").read_text().splitlines()
    value = json.loads(line)
    assert value["prompt"] == "-a --b=c"
    assert out == f"{value['text']}\n"
    assert (value["output_tokens"], value["reason"]) == (9, "length")
    assert " 9 tokens in " in err
    assert " tokens/s, first token after " in err
    assert f"completions: {tmp_path / 'completions.jsonl'}" in err


@pytest.mark.long  # `test_completion.py` stops completions in the process
def test_ctrl_c_keeps_what_has_come(model, tmp_path):
    prompts = tiny_text.prompts_file(tmp_path / "some.txt", ["a"] * 600)
    process = start(
        model,
        f"--config.prompts_file={prompts}",
        "--config.max_tokens=90",
        f"--workdir={tmp_path}",
    )
    assert process.stdout is not None
    heading = b"== 1 of 600: a\n"
    assert len(process.stdout.read(len(heading) + 1)) > len(heading), "some text has come"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    lines = (tmp_path / "completions.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines]
    assert len(values) == 600
    assert values[0]["text"]
    assert "abort" in {value["reason"] for value in values}


WRONG = {
    "no tokenizer": (["--config.model.path=F"], "F/tokenizer.json is not there: expected a token"),
    "no path": (["--config.model.path="], "model.path is empty: give a folder with a model and"),
    "no template": (["--config.chat=True"], "tokenizer_config.json: chat_template is missing, an"),
    "empty": (["--config.prompt="], "prompt: the prompt is empty: expected text"),
    "long": (["--config.prompt=" + "x" * 200], "has 200 tokens and the runner's units_max is 128"),
    "no file": (["--config.prompts_file=F/no.txt"], "F/no.txt is not there: expected prompts, on"),
    "stop": (["--config.stop=[1]"], "stop is '[1]': expected a JSON list of texts"),
    "key": (["--config.smapling.seed=1"], "no 'smapling' (did you mean 'sampling'?)"),
    "number": (["--config.max_tokens=many"], "--config.max_tokens=many: expected a whole number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_before_anything_is_loaded(name, model, tmp_path, capsys):
    arguments, text = WRONG[name]
    bare = tmp_path / "model"
    shutil.copytree(model, bare)
    (bare / "tokenizer_config.json").unlink()
    (bare / "model.safetensors").unlink()
    placed = [argument.replace("=F", f"={tmp_path}") for argument in arguments]
    code = run.main([CONFIG, *SMALL, f"--config.model.path={bare}", *placed, f"--workdir={bare}"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert text.replace("F/", f"{tmp_path}/") in said.err
    assert said.err.count("\n") == 1
    assert not (bare / "completions.jsonl").exists()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{{ messages.__class__ }}",
            "line 1: attribute '__class__' of a list is not for templates",
        ),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "line 1: it takes more than 1000000 steps: expected a template that writes a prompt",
        ),
        (chat_cases.CHATML + "{% oops %}", "Encountered unknown tag 'oops'."),
    ],
)
def test_a_template_that_is_unsafe_is_named_with_its_file(template, text, tmp_path, capsys):
    path = tiny_text.write(tmp_path / "model", template=template)
    arguments = [f"--config.model.path={path}", "--config.chat=True", f"--workdir={tmp_path}"]
    assert run.main([CONFIG, *arguments]) == 2
    error = capsys.readouterr().err
    assert f"{path / 'tokenizer_config.json'}: chat_template: " in error
    assert text in error
