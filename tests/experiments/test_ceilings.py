"""What a machine can do at most is more than nothing, and counts what was read."""

from __future__ import annotations

from aqua_jax.experiments import ceilings


def test_a_reader_reads_all_of_its_memory():
    with ceilings.MemoryReader(1 << 16) as reader:
        assert reader.nbytes == 1 << 16
        reader.read()


def test_rates_are_those_of_work_done():
    assert ceilings.read_rate(1 << 20, repeats=2) > 0
    assert ceilings.product_rate(repeats=1) > 0
