"""The machine and versions that a report names."""

from __future__ import annotations

import platform

import numpy as np

from aqua_jax.workloads import environment


def test_hardware_names_the_machine_and_the_devices_given():
    hardware = environment.hardware(["cpu:0", "cpu:1"])
    assert hardware["cpu"]
    assert hardware["cores"] >= 1
    assert hardware["memory_bytes"] > 1 << 28
    assert hardware["devices"] == ["cpu:0", "cpu:1"]


def test_versions_are_those_installed():
    versions = environment.versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
