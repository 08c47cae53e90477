"""What templates may not touch, and that whatever they do ends soon and stays small."""

from __future__ import annotations

import threading

import jinja2
import pytest
from jinja2 import exceptions

from aqua_jax.tokens import budget, sandbox

GIVEN = {"text": "ab\ncd", "rows": [{"a": "x", "n": 1}, {"a": "y", "n": 2}], "none": None}


def render(source: str, **limits) -> str:
    environment = sandbox.Sandbox(functions={}, own_filters={})
    with budget.granted(budget.Budget(**limits)):
        template = environment.make(source, filename="<it>")
        return "".join(template.generate(GIVEN))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ rows | map(attribute='a') | join('+') }}", "x+y"),
        ("{{ (rows | selectattr('n', 'gt', 1) | list)[0].a }}", "y"),
        ("{% for row in rows %}{{ loop.index }}{{ row.a }}{% break %}{% endfor %}", "1x"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') ~ 1 ~ none ~ [f(2)] }}",
         "<a>1None['<2>']"),
        ("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}", "<in>"),
        ("{% set ns = namespace(n=0) %}{% for r in rows %}{% set ns.n = ns.n + r.n %}"
         "{% endfor %}{{ ns.n }}{{ ns }}", "3<namespace>"),
        ("{{ '%s-%05.1f' | format('a', 2) }}{{ '{:>4}'.format('b') }}{{ '%3d' % 7 }}",
         "a-002.0   b  7"),
        ("{{ text | indent(2) }}{{ text.replace('a', 'A') | replace('b', 'B') }}",
         "ab\n  cdAB\ncd"),
        ("{% filter upper %}a{{ 2 ** 3 }}{% endfilter %}{{ 2.567 | round(1) }}", "A82.6"),
        ("{% set block %}{{ 3 }}4{% endset %}{{ block | length }}{{ missing is defined }}",
         "2False"),
        ("{% generation %}{{ 'a' }}{% endgeneration %}b", "ab"),
        ("{{ dict(a=1).get('a') }}{% for k, v in rows[0].items() %}{{ k }}{% endfor %}", "1an"),
        ("{{ rows[1:] | length }}{{ range(3) | list }}{{ ', '.join(['a', 'b']) }}",
         "1[0, 1, 2]a, b"),
    ],
)  # fmt: skip
def test_what_chat_templates_do_works(source, text):
    assert render(source) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ rows | map(attribute='__class__') | list }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ rows.append(1) }}",
        "{{ rows[0].update({}) }}",
        "{{ rows[0].pop('a') }}",
        "{{ range.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ namespace.__init__ }}",
        "{% macro f() %}{% endmacro %}{{ f._func }}",
        "{% for r in rows %}{{ loop._iterable }}{% endfor %}",
        "{{ text.center(9) }}",
        "{{ text.encode() }}",
        "{{ 1 .bit_length() }}",
        "{% include 'other' %}",
        "{% extends 'other' %}",
        "{% import 'other' as other %}",
        "{% if false %}{% from 'other' import f %}{% endif %}",
    ],
)
def test_what_templates_may_not_touch(source):
    with pytest.raises(exceptions.SecurityError):
        render(source)


@pytest.mark.parametrize("name", ["attr", "pprint", "center", "wordwrap", "xmlattr", "urlize"])
def test_filters_that_are_not_listed_are_refused_by_name(name):
    with pytest.raises(jinja2.TemplateSyntaxError, match=f"No filter named '{name}'"):
        render("{{ rows | " + name + " }}")


DOUBLING = (
    "{%% set ns = namespace(a=%s) %%}{%% for i in range(90) %%}{%% set ns.a = %s %%}{%% endfor %%}"
)
NESTED = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"
BOMBS = {
    "loops": NESTED,
    "loops over text": "{% for a in 'x' * 1999 %}{% for b in 'x' * 1999 %}{% endfor %}{% endfor %}",
    "recursive loops": "{% for a in rows recursive %}{{ loop(rows) }}{{ loop(rows) }}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "callers": "{% macro f(n) %}{{ caller() if n else '' }}{% endmacro %}"
    "{% for a in range(99999) %}{% for b in range(99) %}{% call f(1) %}x{% endcall %}{% endfor %}"
    "{% endfor %}",
    "a range": "{{ range(10 ** 8) | length }}",
    "doubled text": DOUBLING % ("'x'", "ns.a ~ ns.a"),
    "doubled sums": DOUBLING % ("'x'", "ns.a + ns.a"),
    "doubled lists": DOUBLING % ("[1]", "ns.a + ns.a"),
    "nested lists": DOUBLING % ("[1]", "[ns.a, ns.a]"),
    "nested tuples": DOUBLING % ("(1,)", "(ns.a, ns.a)"),
    "nested dicts": DOUBLING % ("{}", "{'a': ns.a, 'b': ns.a}"),
    "nested by dict()": DOUBLING % ("{}", "dict(a=ns.a, b=ns.a)"),
    "squares": DOUBLING % ("9", "ns.a * ns.a"),
    "powers": "{{ 9 ** (9 ** 9) }}",
    "times": "{{ 'x' * 10 ** 10 }}",
    "times, folded": "{{ 10 ** 10 * [1] }}",
    "blocks": "{% set ns = namespace(a='x' * 999) %}{% for i in range(90) %}"
    "{% set b %}{{ ns.a }}{{ ns.a }}{% endset %}{% set ns.a = b %}{% endfor %}",
    "text in blocks": "{% set b %}{% for i in range(99999) %}"
    + "x" * 999
    + "{% endfor %}{% endset %}",
    "replace": "{{ ('x' * 99999) | replace('x', 'y' * 9999) }}",
    "replace nothing": "{{ ('x' * 99999).replace('', 'y' * 9999) }}",
    "join": "{{ ('y' * 9999).join('x' * 99999) }}",
    "joined by a filter": "{{ range(99999) | join('y' * 9999) }}",
    "mapped": "{{ range(99999) | map('replace', '', 'y' * 99) | join }}",
    "indent": "{{ ('\\n' * 99999) | indent(999, true, true) }}",
    "wide indent": "{{ 'x' | indent(10 ** 9) }}",
    "wide format": "{{ '%999999999d' | format(1) }}",
    "wide percent": "{{ '%*d' % (999999999, 1) }}",
    "wide braces": "{{ '{:999999999}'.format(1) }}",
    "wide braces inside": "{{ '{:{}}'.format(1, 999999999) }}",
    "round": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "lists of text": "{% set b %}{% for i in range(999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}"
    "{{ b | list }}",
    "the source": "x" * (sandbox.SOURCE_CHARACTERS_MAX + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_ended_before_they_go_off(name):
    threads = threading.active_count()
    with pytest.raises((budget.BudgetError, RecursionError)):
        render(BOMBS[name], size_max=100_000, steps_max=100_000)
    assert threading.active_count() == threads


def test_a_bomb_that_may_take_as_many_steps_as_it_likes_is_ended_by_the_clock():
    with pytest.raises(budget.BudgetError, match=r"more than 0\.2 seconds"):
        render(NESTED, steps_max=10**12, size_max=10**9, seconds_max=0.2)
