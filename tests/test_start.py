"""What the door brings along: nothing heavy that a run may not need."""

from __future__ import annotations

from tests import processes

LATE = ("matplotlib", "orbax", "scipy.optimize")  # for a page, a layout, a profile


def test_the_door_and_models_import_nothing_that_a_run_may_not_need():
    program = "import sys, aqua_jax.run, models.build; print(*sorted(sys.modules))"
    brought = processes.python(program).split()
    assert not [name for name in LATE if name in brought]
