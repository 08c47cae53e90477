"""Models: what they weigh, and what is said when they do not fit."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.simulation import hardware, shapes

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("name", "token_kib", "page_mib"),
    [
        ("Llama-3.1-8B", 128, 2),
        ("Mistral-7B", 128, 2),
        ("CodeLlama-34B", 192, 3),
        ("Llama-3.1-70B", 320, 5),
        ("Llama-2-7B", 512, 8),
        ("OPT-30B", 1344, 21),
    ],
)
def test_pages_weigh_what_the_paper_s_models_need(name, token_kib, page_mib):
    shape = shapes.text(name)
    assert shape.kv_token_bytes == token_kib * KIB
    assert shape.page_bytes(16) == page_mib * MIB


@pytest.mark.parametrize("name", shapes.text_names())
def test_parameters_are_those_of_the_shape(name):
    """Attention's four matrices, and an MLP of 2 to 3 matrices 2.7 to 4 times as wide."""
    shape = shapes.text(name)
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim
    mlp = shape.parameters / shape.layers - attention
    assert 7.5 < mlp / shape.hidden**2 < 12.5


@pytest.mark.parametrize(
    ("device", "name", "shards", "gib"),
    [
        ("H100", "CodeLlama-34B", 1, 8.8),
        ("H100", "Llama-3.1-8B", 1, 56.7),
        ("H100", "Llama-3.1-70B", 2, 11.9),
        ("H100", "OPT-30B", 1, 15.8),
        ("A10G", "Llama-2-7B", 1, 7.7),
    ],
)
def test_what_is_left_for_kv(device, name, shards, gib):
    left = shapes.kv_bytes(hardware.load(device), shapes.text(name), shards)
    assert left / GIB == pytest.approx(gib, abs=0.06)


def test_a_model_that_does_not_fit_is_refused_with_by_how_much():
    shape = shapes.text("Llama-3.1-70B")
    with pytest.raises(errors.ConfigError) as caught:
        shapes.kv_bytes(hardware.load("H100"), shape, 1)
    assert str(caught.value) == (
        "Llama-3.1-70B needs 131.4 GiB of weights, 1 device of H100 give 79.6 x 0.9 GiB:"
        " short by 59.8 GiB; use 2 devices"
    )
    with pytest.raises(errors.ConfigError, match=r"2 devices of A10G .*; use 8 devices$"):
        shapes.kv_bytes(hardware.load("A10G"), shape, 2)
    assert shapes.kv_bytes(hardware.load("A10G"), shape, 8) > 0


def test_weights_that_leave_no_room_for_a_token_do_not_fit():
    device, shape = hardware.load("H100"), shapes.text("CodeLlama-34B")
    exactly = shape.weight_bytes / device.memory_bytes
    with pytest.raises(errors.ConfigError, match=r"short by 0\.1 GiB"):
        shapes.kv_bytes(device, shape, 1, memory_fraction=exactly)


def test_no_number_of_devices_may_hold_it():
    with pytest.raises(errors.ConfigError, match="no number of these devices holds it"):
        shapes.kv_bytes(
            hardware.load("A10G"), shapes.text("Llama-3.1-70B"), 1, memory_fraction=0.05
        )


@pytest.mark.parametrize("shards", [0, 3, -1])
def test_shards_divide_the_heads(shards):
    with pytest.raises(errors.ConfigError, match="expected a divisor of its 64 heads"):
        shapes.kv_bytes(hardware.load("H100"), shapes.text("CodeLlama-34B"), shards)


@pytest.mark.parametrize("fraction", [0.0, 1.1, -0.5, float("nan")])
def test_the_fraction_is_one(fraction):
    with pytest.raises(errors.ConfigError, match="expected above 0, up to 1"):
        shapes.kv_bytes(hardware.load("H100"), shapes.text("OPT-30B"), 1, fraction)


@pytest.mark.parametrize(
    ("name", "batch", "spare_gb"),
    [
        ("Stable-Diffusion-1.5", 20, 30),
        ("SDXL", 8, 20),
        ("Kandinsky-2.2", 20, 40),
        ("AudioGen-medium", 64, 35),
        ("MusicGen-large", 16, 15),
    ],
)
def test_lenders_spare_what_the_paper_s_table_says(name, batch, spare_gb):
    """Of 80 GB; the device has 5.9 GB more, of which a lender keeps a buffer of 5 GiB."""
    shape = shapes.items(name)
    assert shape.batch == batch
    assert 80e9 - shape.memory_bytes(batch) == pytest.approx(spare_gb * 1e9, abs=100)
    offered = shapes.spare_bytes(hardware.load("A100-80G"), shape, batch) - 5 * GIB
    assert offered / 1e9 == pytest.approx(spare_gb, abs=0.6)
    assert "Assumption" in shape.source


def test_a_batch_that_does_not_fit_is_refused_with_by_how_much():
    shape = shapes.items("SDXL")
    with pytest.raises(errors.ConfigError) as caught:
        shapes.spare_bytes(hardware.load("A10G"), shape, 8)
    assert str(caught.value) == (
        "SDXL at batch 8 needs 55.9 GiB, A10G gives 22.5: short by 33.4 GiB;"
        " use a batch of 2 at most"
    )
    assert shapes.spare_bytes(hardware.load("A10G"), shape, 2) >= 0
    with pytest.raises(errors.ConfigError, match="batch is 0; expected at least 1"):
        shapes.spare_bytes(hardware.load("A10G"), shape, 0)


def test_unknown_models_have_close_matches():
    with pytest.raises(errors.ConfigError, match=r"text model 'Llama-3-8B' \(did you mean 'Llama-"):
        shapes.text("Llama-3-8B")
    with pytest.raises(errors.ConfigError, match=r"image or audio model 'SDXXL' \(did .* 'SDXL'"):
        shapes.items("SDXXL")
