"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a temporary file beside `path` and renames it: readers see old or new, never half."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # temporary files are private, reports are not
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
