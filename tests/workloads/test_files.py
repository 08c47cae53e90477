"""A reader sees the old file or the new one, never half, and nothing else in the folder."""

from __future__ import annotations

import os

import pytest

from aqua_jax.workloads import files


def test_a_file_is_replaced_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "file.json"
    for text in ("old", "new and longer", ""):
        files.write_whole(path, text)
        assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    files.write_whole(path, "old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]
