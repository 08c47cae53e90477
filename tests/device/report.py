"""What a section of the GPU check found, on disk after every line, so that a time-out keeps it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import traceback
from collections.abc import Callable
from typing import Any

from aqua_jax.control import errors
from aqua_jax.memory import native_library

PASSED, FAILED, MEASURED, UNAVAILABLE = "passed", "FAILED", "measured", "not available"


@dataclasses.dataclass
class Report:
    """Lines of one section. `path`: rewritten whole after each."""

    section: str
    path: pathlib.Path
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def measured(self, name: str, value: float, unit: str, note: str = "") -> None:
        """A figure, which is neither right nor wrong."""
        self._add(name, MEASURED, f"{value:.4g} {unit}", note, value=value, unit=unit)

    def unavailable(self, name: str, why: str) -> None:
        """What this machine forbids: never passed."""
        self._add(name, UNAVAILABLE, "", why)

    def passed(self, name: str, note: str = "") -> None:
        self._add(name, PASSED, "", note)

    def failed(self, name: str, why: str) -> None:
        self._add(name, FAILED, "", why)

    def expect(self, name: str, holds: bool, note: str) -> None:
        """Passed or failed; the note says what was seen."""
        self._add(name, PASSED if holds else FAILED, "", note)

    def refused(self, name: str, code: int | None, why: str) -> None:
        """Not available where the library says so by its code; failed with any other."""
        state = UNAVAILABLE if code == native_library.Code.UNAVAILABLE else FAILED
        self._add(name, state, "", why[:300])

    def check(self, name: str, body: Callable[[], Any]) -> None:
        """Passed unless `body` raises; not available if the machine lacks what it needs."""
        try:
            body()
        except errors.NativeError as error:
            self.refused(name, error.code, str(error))
        except Exception as error:
            traceback.print_exc()
            self.failed(name, _first_line(error))
        else:
            self.passed(name)

    def _add(self, name: str, state: str, figure: str, note: str, **more: Any) -> None:
        self.lines.append({"name": name, "state": state, "figure": figure, "note": note, **more})
        replace_file(self.path, json.dumps(self.lines, indent=1))
        print(
            f"[{self.section}] {name}: {' '.join(filter(None, (state, figure, note)))}", flush=True
        )


def replace_file(path: pathlib.Path, text: str) -> None:
    """Writes a file so that whoever is ended meanwhile leaves the one before it whole."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
