"""Speeds come back for the same key alone; what is broken counts as absent."""

from __future__ import annotations

import json
import pathlib

import pytest

from aqua_jax.experiments import link_cache
from aqua_jax.memory import probe

KEY = {"host": "here", "stores": [[0, 4096], [1, 4096]]}
SPEEDS = [
    probe.Speed(0, 1, 1e-5, (probe.Rate(65536, 1e-4), probe.Rate(1 << 20, 1e-3))),
    probe.Speed(1, 0, 2e-5, (probe.Rate(65536, 3e-4),)),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "aqua_jax" / "links"


def test_what_is_kept_comes_back_by_pair():
    assert link_cache.LinkCache(KEY).load() == {}
    assert link_cache.LinkCache(KEY).keep(SPEEDS) == ""
    assert link_cache.LinkCache(KEY).load() == {(0, 1): SPEEDS[0], (1, 0): SPEEDS[1]}


def test_another_key_has_its_own():
    link_cache.LinkCache(KEY).keep(SPEEDS)
    other = link_cache.LinkCache(KEY | {"host": "there"})
    assert other.load() == {}
    other.keep(SPEEDS[:1])
    assert len(link_cache.LinkCache(KEY).load()) == 2
    assert len(other.load()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"key": {"host": "another"}, "links": []}),
        json.dumps({"key": KEY, "links": [{"source": 0, "target": 1}]}),
        json.dumps(
            {
                "key": KEY,
                "links": [{"source": 0, "target": 1, "latency_seconds": 1.0, "rates": []}],
            }
        ),
        json.dumps(
            {
                "key": KEY,
                "links": [{"source": 0, "target": 1, "latency_seconds": 1.0, "rates": [[1, 0.0]]}],
            }
        ),
    ],
)
def test_a_broken_file_counts_as_absent_and_is_replaced(folder, text):
    link_cache.LinkCache(KEY).keep(SPEEDS)
    (file,) = folder.iterdir()
    file.write_text(text)
    assert link_cache.LinkCache(KEY).load() == {}
    link_cache.LinkCache(KEY).keep(SPEEDS)
    assert len(link_cache.LinkCache(KEY).load()) == 2


def test_a_folder_that_cannot_be_is_said_and_stops_nobody(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache = link_cache.LinkCache(KEY)
    assert cache.load() == {}
    assert "not kept for the next run" in cache.keep(SPEEDS)


def test_without_the_variable_it_is_in_the_home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path)
    assert link_cache.folder() == tmp_path / ".cache" / "aqua_jax" / "links"
