"""The page: loads nothing, escapes everything, defines what it shows."""

from __future__ import annotations

import html.parser
import re

from aqua_jax.workloads import headline, metrics, report, webpage
from tests.workloads import synthetic

HOSTILE = "<script>alert('x')</script>"


class _Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are not closed in order."""

    VOID = ("meta", "br", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.words += data + " "


def _runs():
    return [
        synthetic.run("fcfs", first_token_seconds=4.0, evidence="emulated", tenants=("x", HOSTILE)),
        synthetic.run(HOSTILE.replace("/", "|"), evidence="emulated"),
    ]


def _render(**settings):
    runs = _runs()
    value = report.assemble(
        runs, **{"config": {"a": {HOSTILE: HOSTILE}}, "devices": ["cpu", "cpu"]} | settings
    )
    return value, webpage.render(value, runs)


def test_answers_stand_on_the_page_behind_their_prompts():
    sample = {"arm": "the same in all arms", "prompt": "Once <b>", "answer": " upon a time"}
    value = report.assemble(_runs(), config={}, devices=[], tables={"samples": {"3": sample}})
    assert "<b>Once &lt;b&gt;</b> upon a time" in webpage.render(value, [])


def test_the_page_loads_nothing():
    _, text = _render()
    for tag, name, value in _Page(text).attributes:
        assert tag not in ("link", "script", "iframe", "img", "object", "embed")
        if name in ("src", "href", "action", "data", "srcset"):
            assert value.startswith("#"), (tag, name, value)
    assert not re.search(r"url\((?!#)|@import|https?://", text)


def test_the_page_says_the_headline_the_evidence_and_the_numbers():
    value, text = _render()
    words = re.sub(r"\s+", " ", _Page(text).words)
    assert headline.headline(value) in words
    assert "emulated" in words
    assert "2 x cpu" in words
    assert "First token p99 4.00 s 1.00 s 4.00x" in words
    for title in ("Tenants", "Emulation", "Configuration", "Definitions", "Sessions over time"):
        assert title in words
    assert "Links" not in words


def test_every_metric_that_is_shown_is_defined_on_the_page():
    _, text = _render()
    words = _Page(text).words
    for metric in (*metrics.ARM.values(), *metrics.COMPARISON.values(), *metrics.TENANT.values()):
        assert metric.definition in words


def test_text_from_outside_is_never_markup():
    _, text = _render()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_many_comparisons_get_a_table_of_their_own():
    runs = [synthetic.run(f"arm{i}", first_token_seconds=8.0 / (i + 1)) for i in range(4)]
    value = report.assemble(runs, config={}, devices=[], baselines=("arm0", "arm1"))
    words = re.sub(r"\s+", " ", _Page(webpage.render(value, [])).words)
    assert "Comparisons" in words
    assert "arm3/arm0 4.00x 4.00x 4.00x 4.00x" in words
    few = report.assemble(runs[:2], config={}, devices=[])
    assert "Comparisons" not in _Page(webpage.render(few, [])).words


def test_links_and_programs_have_tables():
    runs = _runs()
    runs[0].programs = {"decode": {"compiles": 1, "calls": 8, "seconds": 0.5}}
    value = report.assemble(
        runs, config={}, devices=[], tables={"links": {"0->1": {"bytes_per_second": 3.7e11}}}
    )
    words = re.sub(r"\s+", " ", _Page(webpage.render(value, runs)).words)
    assert "Links Bandwidth 0->1 370 GB/s" in words
    assert "fcfs: decode 1 8 500 ms" in words


def test_what_settings_came_to_is_said_with_the_reason():
    path = {"memory.mover=auto": {"used": "xla", "because": "the library is <not> built"}}
    value = report.assemble(_runs(), config={}, devices=[], tables={"data_path": path})
    words = re.sub(r"\s+", " ", _Page(webpage.render(value, [])).words)
    assert "Data path memory.mover=auto xla: the library is <not> built" in words
    plain = report.assemble(_runs(), config={}, devices=[])
    assert "Data path" not in _Page(webpage.render(plain, [])).words


def test_a_report_without_records_or_comparisons_is_a_page_too():
    value = report.assemble([synthetic.run("fcfs")], config={}, devices=[])
    words = _Page(webpage.render(value, [])).words
    assert "Arms side by side" in words
    assert "Over time" not in words


def test_a_sweep_has_its_rates_plots_notes_and_definitions():
    page = webpage.render(synthetic.swept(), [])
    assert "Rates and windows" in page
    assert page.count("<svg") == 2
    assert "Shown: a window." in page
    assert "4 requests/s: ratio to the better baseline of each window, median ≥ least" in page
    assert "cfs against the better baseline of each window" in page
    assert "median and least over the windows" in page  # a definition
    assert "Simulated in" in page
