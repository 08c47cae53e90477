"""Writes the golden files of all cases, or of those named: `python -m tests.parity.make_goldens`.

Needs the extra `parity`. Files that belong to no case are removed when all are written.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

from tests.parity import cases, reference


def main(names: list[str]) -> None:
    """Raises SystemExit for a name that no case has."""
    by_name = {case.name: case for case in cases.CASES}
    if unknown := set(names) - by_name.keys():
        raise SystemExit(f"no case is called {', '.join(sorted(unknown))}: see {cases.__file__}")
    for name in names or by_name:
        with tempfile.TemporaryDirectory() as folder:
            made = reference.answer(by_name[name], pathlib.Path(folder))
        made.save(by_name[name].golden)
        size = by_name[name].golden.stat().st_size
        print(f"{name}: {size:,} bytes, first near tie at {made.near_tie}")
    if not names:
        for path in cases.GOLDENS.glob("*.npz"):
            if path.stem not in by_name:
                path.unlink()
    total = sum(path.stat().st_size for path in cases.GOLDENS.glob("*.npz"))
    print(f"{total:,} bytes in all")


if __name__ == "__main__":
    main(sys.argv[1:])
