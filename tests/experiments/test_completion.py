"""Completions by a real engine: the text of the tokens, whatever pages; stops; what is refused."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import completion, completion_settings, machine
from aqua_jax.tokens import tokenizer
from tests.experiments import tiny_text

PROMPTS = ["the quick", "def f(x)", "你好", "again and", "a", "Zwölf große Boxkämpfer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny_text.write(tmp_path_factory.mktemp("completion") / "model")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "some.txt"
    return tiny_text.prompts_file(path, PROMPTS)


@pytest.fixture(scope="module")
def shared(model: pathlib.Path) -> Iterator[machine.Machine]:
    made = completion.Completion(tiny_text.wanted(model)).machine()
    yield made
    made.close()


class Said:
    """What came, by prompt."""

    def __init__(self) -> None:
        self.pieces: dict[int, list[str]] = {}
        self.ended: list[int] = []

    def __call__(self, number: int, piece: str, ended: bool) -> None:
        assert number not in self.ended
        self.pieces.setdefault(number, []).append(piece)
        if ended:
            self.ended.append(number)


def run(model, shared, stopped=lambda: False, **changes) -> tuple[completion.Result, Said]:
    said = Said()
    one = completion.Completion(tiny_text.wanted(model, **changes))
    result = one.run(shared, said, stopped=stopped)
    texts = ["".join(said.pieces.get(number, ())) for number in range(len(one.prompts))]
    assert texts == [done.text for done in result.completed]
    assert sorted(said.ended) == list(range(len(one.prompts)))
    return result, said


def test_the_text_is_that_of_the_tokens_and_comes_in_pieces(model, shared):
    result, said = run(model, shared, ignore_eos=True)
    (done,) = result.completed
    assert (done.reason, len(done.tokens)) == ("length", 12)
    assert done.text == tokenizer.Tokenizer(model).decode(done.tokens)
    assert len(said.pieces[0]) > 1
    assert done.first_token_seconds is not None
    assert 0 < done.first_token_seconds <= done.seconds <= result.seconds


def test_many_prompts_give_what_each_gives_alone_while_pages_move(model, shared, file):
    """Nine pages, of which one is scratch: six sessions of three pages do not fit together."""
    many, _ = run(model, shared, prompts_file=file, ignore_eos=True, max_tokens=32)
    for prompt, done in zip(PROMPTS, many.completed, strict=True):
        alone, _ = run(model, shared, prompt=prompt, ignore_eos=True, max_tokens=32)
        assert alone.completed[0].tokens == done.tokens
    assert many.output_tokens == 32 * len(PROMPTS)


def test_a_stop_string_ends_the_text_before_it(model, shared):
    (whole,) = run(model, shared, ignore_eos=True, max_tokens=32)[0].completed
    stop = whole.text[len(whole.text) // 2 :][:3]
    (done,) = run(model, shared, ignore_eos=True, max_tokens=32, stop=stop)[0].completed
    assert (done.text, done.reason) == (whole.text[: whole.text.index(stop)], "stop")
    assert len(done.tokens) < 32
    (more,) = run(model, shared, ignore_eos=True, max_tokens=32, stop=stop, include_stop=True)[
        0
    ].completed
    assert more.text == done.text + stop


def test_the_models_own_end_ends_it(tmp_path, model, shared):
    (whole,) = run(model, shared, ignore_eos=True)[0].completed
    last = whole.tokens[3]
    other = tiny_text.write(tmp_path / "model")
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": last}))
    (done,) = run(other, shared)[0].completed
    end = whole.tokens.index(last) + 1
    assert (done.tokens, done.reason) == (whole.tokens[:end], "stop")


def test_the_context_ends_it_where_it_comes_before_max_tokens(model, shared):
    (done,) = run(model, shared, prompt="x" * 80, max_tokens=500, ignore_eos=True)[0].completed
    assert (len(done.tokens), done.reason) == (16, "length")


def test_it_can_be_stopped_where_it_stands(model, shared, file):
    asked = iter([False, False, False])
    result, _ = run(
        model,
        shared,
        stopped=lambda: next(asked, True),
        prompts_file=file,
        max_tokens=64,
        ignore_eos=True,
    )
    assert {done.reason for done in result.completed} == {"abort"}


def test_results_are_lines_of_json(model, shared, tmp_path):
    result, _ = run(model, shared, prompt="你好")
    line = json.loads(result.write(tmp_path / "a" / "b").read_text())
    assert line["prompt"] == "你好"
    assert line["prompt_tokens"] == len(result.completed[0].prompt.ids)
    assert line["output_tokens"] == len(line["token_ids"]) == len(result.completed[0].tokens)
    failed = dataclasses.replace(result.completed[0], reason="error", error="gone")
    assert failed.as_json()["error"] == "gone"


def test_log_probabilities_are_in_the_lines(model, shared):
    sampling = completion_settings.SamplingSettings(logprobs=2)
    (done,) = run(model, shared, sampling=sampling, ignore_eos=True)[0].completed
    line = json.loads(json.dumps(done.as_json()))
    (plain,) = run(model, shared, ignore_eos=True)[0].completed
    assert line["token_ids"] == plain.tokens
    for id, scores in zip(line["token_ids"], line["logprobs"], strict=True):
        assert scores["top"][str(id)] == scores["logprob"] == max(scores["top"].values())
        assert len(scores["top"]) == 2


def test_prompts_without_room_are_refused_before_anything_is_compiled(model):
    wanted = tiny_text.wanted(model, prompt="x" * 128)
    with pytest.raises(
        errors.RequestError, match="has 128 tokens and the runner's units_max is 128"
    ):
        completion.Completion(wanted)
    one = completion.Completion(tiny_text.wanted(model, prompt="x" * 100))
    with pytest.raises(
        errors.RequestError, match="100 tokens and the model's context length is 96"
    ):
        one.machine()


def test_a_session_larger_than_the_pool_is_refused_by_prompt(model, shared):
    wanted = tiny_text.wanted(model)
    small = dataclasses.replace(wanted.memory, pool_pages=2)
    with pytest.raises(errors.RequestError, match="prompt: "):
        run(model, shared, prompt="x" * 60, memory=small)


def test_a_tokenizer_of_another_model_is_refused(tmp_path, model):
    path = tiny_text.write(tmp_path / "model")
    layout = json.loads((path / "tokenizer.json").read_text())
    added = {"id": 400, "content": "<more>", "special": True}
    layout["added_tokens"].append({**layout["added_tokens"][0], **added})
    layout["model"]["vocab"]["<more>"] = 400
    (path / "tokenizer.json").write_text(json.dumps(layout))
    with pytest.raises(errors.ConfigError, match=r"ids up to 400: expected at most 351, since the"):
        completion.Completion(tiny_text.wanted(path)).machine()
