"""Readers against the recorded traces, and against files that are wrong in one place."""

from __future__ import annotations

import pathlib

import pytest

from aqua_jax.control import errors
from aqua_jax.workloads import traces


def test_azure_trace_has_its_published_figures(traces_dir):
    arrivals = traces.read(traces_dir / "AzureLLMInferenceTrace_2023_conv.csv")
    assert len(arrivals) == 19_366
    assert arrivals[0].at_seconds == 0.0
    assert (arrivals[0].prompt_tokens, arrivals[0].output_tokens) == (374, 44)
    assert arrivals[1].at_seconds == pytest.approx(50.995169 - 46.680590)
    assert len(arrivals) / arrivals[-1].at_seconds == pytest.approx(5.53, abs=0.005)
    assert sum(a.prompt_tokens for a in arrivals) / len(arrivals) == pytest.approx(1155, abs=0.5)


def test_mooncake_trace_keeps_its_shared_blocks(traces_dir):
    arrivals = traces.read(traces_dir / "mooncake_fast25_conversation_trace.jsonl")
    assert len(arrivals) == 12_031
    assert arrivals[0].prefix_ids == tuple(range(14))
    assert arrivals[0].prefix_block_tokens == 512
    blocks = [block for arrival in arrivals for block in arrival.prefix_ids]
    assert 1 - len(set(blocks)) / len(blocks) == pytest.approx(0.366, abs=0.0005)


@pytest.mark.parametrize(("name", "rows"), [("fcfs", 2_700), ("vtc", 1_620)])
def test_vtc_trace_has_its_clients_as_tenants(traces_dir, name, rows):
    arrivals = traces.read(traces_dir / f"vtc_synthetic_overload_{name}.csv")
    assert len(arrivals) == rows
    assert {arrival.tenant for arrival in arrivals} == {"0", "1"}
    assert {arrival.prompt_tokens for arrival in arrivals} == {256}


def test_other_files_of_the_folder_are_refused(traces_dir):
    with pytest.raises(errors.TraceError, match=r"line 1: found 'num_prefill_tokens.*Mooncake"):
        traces.read(traces_dir / "vidur_arxiv_summarization_lengths_llama2.csv")


def test_times_start_at_the_first_row_and_spaces_do_not_count(tmp_path):
    path = _file(tmp_path, " req_time_s , client, prompt_len ,output_len\n2.5, a b ,3,4\n4,c,5,6\n")
    first, second = traces.read(path)
    assert (first.at_seconds, first.tenant, first.prompt_tokens) == (0.0, "a b", 3)
    assert (second.at_seconds, second.tenant, second.output_tokens) == (1.5, "c", 6)


def test_rows_keep_the_order_of_the_file(tmp_path):
    path = _file(tmp_path, "req_time_s,client,prompt_len,output_len\n2,a,3,4\n1,b,5,6\n")
    assert [arrival.at_seconds for arrival in traces.read(path)] == [0.0, -1.0]


def test_columns_may_stand_in_any_order_beside_others(tmp_path):
    path = _file(
        tmp_path, "GeneratedTokens,Model,ContextTokens,TIMESTAMP\n5,m,9,2024-05-10 00:00:00+00:00\n"
    )
    (arrival,) = traces.read(path)
    assert (arrival.prompt_tokens, arrival.output_tokens) == (9, 5)


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:15:46.6805900,374,44\n"
VTC = "req_time_s,client,prompt_len,output_len\n"
MOONCAKE = '{"timestamp": 27, "input_length": 5, "output_length": 2, "hash_ids": [1]}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found no rows"),
        (AZURE, "found no rows"),
        ("\n\n", "found no rows"),
        ("a,b\n1,2\n", "line 1: found 'a,b'; expected a CSV header with TIMESTAMP"),
        (
            "TIMESTAMP,ContextTokens\n",
            "line 1: found columns TIMESTAMP, ContextTokens; expected also GeneratedTokens",
        ),
        (AZURE + "yesterday,1,2\n", "line 2: found TIMESTAMP 'yesterday'; expected an ISO 8601"),
        (AZURE + ROW + ROW.replace("374", "many"), "line 3: found prompt length 'many'"),
        (AZURE + ROW.replace("44", "-1"), "output length '-1'; expected a whole number of tokens"),
        (AZURE + ROW.replace("44", "4.5"), "line 2: found output length '4.5'"),
        (AZURE + ROW.replace("44", "9999999999"), "expected a whole number of tokens from 0 to"),
        (AZURE + ROW + ROW.replace(",374", "Z,374"), "expected a time zone in all rows or in none"),
        (AZURE + "2023-11-16,1\n", "line 2: found 2 fields; expected 3 as in the header"),
        (AZURE + '"2023-11-16,1,2\n', "line 2: found .*; expected comma-separated fields"),
        (VTC + "nan,0,1,1\n", "line 2: found req_time_s 'nan'; expected a finite number"),
        ("{\n", "line 1: found .*; expected one JSON object"),
        (MOONCAKE + "[1]\n", "line 2: found a JSON list; expected one JSON object"),
        ('{"timestamp": 1}\n', "found keys timestamp; expected also input_length, output_length"),
        (MOONCAKE.replace("27", "true"), "found timestamp 'True'; expected a finite number"),
        (MOONCAKE.replace("5", "5.5"), "line 1: found prompt length '5.5'"),
        (MOONCAKE.replace("[1]", '["x"]'), "found hash_ids .*; expected a list of whole numbers"),
        ('{"a": ' + "[" * 100_000 + "\n", "expected one JSON object"),
    ],
)
def test_a_bad_file_is_named_with_its_line_and_what_was_expected(tmp_path, text, expected):
    path = _file(tmp_path, text)
    with pytest.raises(errors.TraceError, match=expected) as raised:
        traces.read(path)
    assert str(raised.value).startswith(str(path))


def test_a_reader_does_not_guess_another_format(tmp_path):
    with pytest.raises(errors.TraceError, match="expected also req_time_s, client"):
        traces.read_vtc(_file(tmp_path, AZURE + ROW))


def _file(folder: pathlib.Path, text: str) -> pathlib.Path:
    path = folder / "trace.txt"
    path.write_text(text, encoding="utf-8")
    return path
