"""The catalogue of devices, and files of the same form."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aqua_jax.control import errors
from aqua_jax.simulation import hardware, strict_json

EVERY = ["A10G", "A100-80G", "H100", "H200", "B200"]


def test_the_catalogue_has_its_devices():
    assert hardware.names() == EVERY


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_has_its_source(name):
    device = hardware.load(name)
    figures = strict_json.dump(device).keys() - {"name", "sources"}
    assert device.sources.keys() == figures
    assert all(len(source) > 10 for source in device.sources.values())


@pytest.mark.parametrize("name", EVERY)
def test_links_reach_less_than_they_are_rated_for(name):
    device = hardware.load(name)
    rated = {"A10G": (0, 31.5), "A100-80G": (300, 31.5), "B200": (900, 63)}
    nvlink, pcie = rated.get(name, (450, 63))
    assert device.pcie.bytes_per_second < pcie * 1e9
    assert (device.nvlink is None) == (nvlink == 0)
    if device.nvlink is not None:
        assert 0.75 < device.nvlink.bytes_per_second / (nvlink * 1e9) < 1
        # The claim that the comparison of tiers rests on: 7 to 11 times at large copies.
        assert 6.5 < device.nvlink.bytes_per_second / device.pcie.bytes_per_second < 14


def test_a_copy_takes_latency_and_bytes_over_rate():
    link = hardware.LinkFit(1000, 2_000_000_000, 3_000_000_000)
    assert link.nanoseconds(0) == 1000
    assert link.nanoseconds(2_000_000_000) == 1000 + 1_000_000_000
    assert link.nanoseconds(3) == 1000 + 2  # 1.5 ns, rounded up
    assert type(link.nanoseconds(3)) is int


def test_a_saved_profile_is_loaded_again(tmp_path):
    path = tmp_path / "mine.json"
    device = hardware.load("H100")
    path.write_text(json.dumps(strict_json.dump(device)))
    assert hardware.load(str(path)) == device


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_bytes": 0}, "memory_bytes is 0; expected a number above 0"),
        ({"memory_efficiency": 1.2}, "memory_efficiency is 1.2; expected a part of 1"),
        ({"dispatch_ns": -1}, "dispatch_ns is -1; expected a number at least 0"),
        ({"memory_byts": 1}, "unknown field 'memory_byts' (did you mean 'memory_bytes'?)"),
        (
            {"pcie": {"latency_ns": 1, "bytes_per_second": -5, "duplex_bytes_per_second": 5}},
            "pcie: bytes_per_second is -5; expected a number above 0",
        ),
        (
            {"pcie": {"latency_ns": 1, "bytes_per_second": 5, "duplex_bytes_per_second": 11}},
            "pcie: duplex_bytes_per_second is 11; expected once to twice bytes_per_second, 5 to 10",
        ),
        ({"pcie": {"latency_ns": 1}}, "pcie: lacks 'bytes_per_second'; expected a whole number"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(strict_json.dump(hardware.load("H100")) | change))
    with pytest.raises(errors.ConfigError) as caught:
        hardware.load(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_has_a_close_match():
    with pytest.raises(errors.ConfigError, match=r"unknown hardware 'H10' \(did you mean 'H100'"):
        hardware.load("H10")


def test_the_simulator_s_figures_need_no_numpy():
    program = (
        "import sys; from aqua_jax.simulation import cost, hardware, shapes;"
        " cost.text_cost(hardware.load('H100'), shapes.text('Llama-3.1-8B'));"
        " print(*sorted({'numpy', 'scipy', 'jax'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
