"""Python programs run in a process of their own, for tests of what lasts as long as a process."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).resolve().parent.parent


def python(
    program: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    cwd: pathlib.Path = ROOT,
) -> str:
    """Runs `program`, from the checkout unless told, and returns what it printed.

    environment: added to this process's own. Fails with what the program wrote to stderr.
    """
    run = subprocess.run(
        [sys.executable, *options, "-c", program],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
