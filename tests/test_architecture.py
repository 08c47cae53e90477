"""ARCHITECTURE.md names files, tests and packages that exist, and every invariant that code names.

Knows: the page as text. Whether what it says is wise, no machine can tell.
"""

from __future__ import annotations

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
INVARIANT = re.compile(r"[Ii]nvariants? (\d+)(?: and (\d+))?")


def test_files_and_tests_exist() -> None:
    named = re.findall(r"`((?:aqua_jax|models|configs|tests)/[\w/]*(?:\.py)?)(?:::(\w+))?`", TEXT)
    assert len(named) > 50
    missing = []
    for path, test in named:
        file = ROOT / path
        if not file.exists() or (test and f"def {test}(" not in file.read_text()):
            missing.append(f"{path}::{test}" if test else path)
    assert not missing


def test_every_invariant_has_a_row_and_a_keeper() -> None:
    rows = {int(number): row for number, row in re.findall(r"^\| (\d) \| (.*)$", TEXT, re.M)}
    assert sorted(rows) == list(range(1, 10))
    for row in rows.values():
        _, kept, proved = row.strip(" |").split(" | ")
        assert "aqua_jax/" in kept
        assert "tests/" in proved


def test_invariants_named_in_code_are_kept_where_the_page_says() -> None:
    """A file that says which invariant it is about cannot name one that the page lacks."""
    for file in (ROOT / "aqua_jax").rglob("*.py"):
        for numbers in INVARIANT.findall(file.read_text()):
            for number in filter(None, numbers):
                assert f"\n| {number} | " in TEXT, f"{file.name} names invariant {number}"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["test"] + extras["train"] + extras["parity"]
    names = {re.match(r"[\w-]+", line)[0] for line in wanted}
    table = TEXT[TEXT.index("## Dependencies") :]
    first_cells = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    explained = {name for cell in first_cells[2:] for name in cell.split(", ")}
    assert names == explained


def test_links_inside_lead_to_headings() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= anchors
