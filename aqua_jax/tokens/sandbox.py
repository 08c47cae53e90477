"""Templates of strangers: what they may touch, and that whatever they do is bounded.

Knows: jinja2, which of its names chat templates use. Does not know: messages, files.

On top of jinja2's immutable sandbox, which keeps templates from Python's insides:

- What is not listed here is refused: filters, and attributes by type of object.
- A template's tree is rewritten before it is compiled: loop bodies and macros begin with a step,
  and whatever builds a value (operators, `~`, lists, calls, filters) does so through the budget.
  Sizes are checked before where the result can be far larger than what went in (`'x' * n`,
  replace, join, padding), and behind it elsewhere. So no value is larger than the budget says,
  every operation on values is short, and between two of them the budget can end it all: on the
  thread that renders, without a second one to be left behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

import jinja2
from jinja2 import exceptions, ext, filters, nodes, parser, runtime, sandbox, utils, visitor

from aqua_jax.tokens import budget

_Node = TypeVar("_Node", bound=nodes.Node)

SOURCE_CHARACTERS_MAX = 1 << 18
_RANGE_MAX = 100_000
_PADDING_MAX = 1000  # of `indent` and `round`
_BITS_MAX = 4096
# Padding by a number of five digits, or one taken from an argument.
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:\*|\d{5})")
_WIDE_BRACES = re.compile(r"\{[^{}]*(?:\{|:[^{}]*\d{5})")

_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "forceescape", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe",
    "select", "selectattr", "sort", "string", "sum", "title", "trim", "truncate", "unique", "upper",
)  # fmt: skip
_OF_TEXT = frozenset(
    (
        "capitalize", "count", "endswith", "find", "format", "index", "isalnum", "isalpha",
        "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join",
        "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind",
        "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
        "swapcase", "title", "upper",
    )
)  # fmt: skip
_ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _OF_TEXT),
    (Mapping, frozenset(("get", "items", "keys", "values"))),
    (list, frozenset(("count", "index"))),
    (tuple, frozenset(("count", "index"))),
)
_WHOLE = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class Sandbox(sandbox.ImmutableSandboxedEnvironment):
    """An environment whose templates render only within `budget.granted`.

    functions, own_filters: more of them, by name. They bound their own work.
    """

    intercepted_binops = frozenset(sandbox.SandboxedEnvironment.default_binop_table)

    def __init__(
        self,
        *,
        functions: Mapping[str, Callable[..., Any]],
        own_filters: Mapping[str, Callable[..., Any]],
    ) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[ext.LoopControlExtension, _Generation],
            finalize=_written,
            cache_size=0,
        )
        self.globals = {"range": _range, "dict": dict, "namespace": _Namespace, **functions}
        bounded = {
            "format": _format,
            "indent": _indent,
            "join": _join,
            "replace": _replace,
            "round": _round,
        }
        known = {name: filters.FILTERS[name] for name in _FILTERS} | bounded
        self.filters = {name: _guarded(made) for name, made in (known | dict(own_filters)).items()}

    def make(self, source: str, *, filename: str) -> jinja2.Template:
        """The template, compiled. Call within `budget.granted`: constants are folded.

        Raises jinja2.TemplateError, BudgetError, SecurityError.
        """
        if len(source) > SOURCE_CHARACTERS_MAX:
            raise budget.BudgetError(f"it has more than {SOURCE_CHARACTERS_MAX} characters")
        tree = self.parse(source, filename=filename)
        tree = _Rewriter().visit(tree)
        tree.set_environment(self)
        code = self.compile(tree, filename=filename)
        return jinja2.Template.from_code(self, code, self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        for kind, known in _ATTRIBUTES:
            if isinstance(obj, kind):
                return attr in known
        return isinstance(obj, runtime.LoopContext | runtime.Macro | utils.Namespace)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise exceptions.SecurityError(
            f"attribute {attribute!r} of a {type(obj).__name__} is not for templates"
        )

    def call_binop(self, context: runtime.Context, operator: str, left: Any, right: Any) -> Any:
        _check_operands(operator, left, right)
        return budget.current().keep(super().call_binop(context, operator, left, right))

    def call(__self, __context: runtime.Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as in jinja2: a keyword argument of a template may have any name
        if __obj is tick or __obj is kept:  # these account for themselves
            return __obj(*args)
        _check_arguments((*args, *kwargs.values()))
        _check_method(__obj, args, kwargs)
        answer = super().call(__context, __obj, *args, **kwargs)
        return budget.current().keep(answer)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        made = super().wrap_str_format(value)
        if made is not None and _WIDE_BRACES.search(value.__self__):
            raise budget.BudgetError("it pads by a width of five digits, or one from elsewhere")
        return made

    # Reached by the rewritten tree, as `environment.NAME`.

    @property
    def tick(self) -> Callable[[int], None]:
        """Of a loop's turn or a macro's call."""
        return tick

    @property
    def kept(self) -> Callable[[Any], Any]:
        """Of a list, tuple or dict."""
        return kept

    @property
    def joined(self) -> Callable[..., str]:
        """In the place of `~`."""
        return joined


def tick(characters: int) -> None:
    """A step that is about to write so many characters of the template."""
    budget.current().spend(made=characters)


def kept(value: Any) -> Any:
    """A value that the template has built."""
    return budget.current().keep(value)


def joined(*parts: Any) -> str:
    """The texts of all parts, one behind the other."""
    granted = budget.current()
    size, texts = 0, []
    for part in parts:
        size += budget.measure(part, most=granted.size_max)
        granted.check_size(size)
        texts.append(str(part))
    return "".join(texts)


class _Namespace(utils.Namespace):
    """A namespace that is a leaf: it may hold others, and is written without what it holds."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(ext.Extension):
    """`{% generation %}` ... `{% endgeneration %}`: marks what a model wrote; changes no text."""

    tags = {"generation"}  # noqa: RUF012  # declared so by jinja2

    def parse(self, parser: parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Rewriter(visitor.NodeTransformer):
    """Puts the budget into a template's tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # jinja2 looks for this name
        return self._begin(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802  # as above
        return self._begin(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802  # as above
        return self._begin(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  # as above
        self.generic_visit(node)
        return _call("joined", node.nodes, node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802  # as above
        return self._keep(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802  # as above
        return self._keep(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802  # as above
        return self._keep(node) if node.ctx == "load" else node

    def generic_visit(self, node: _Node, *args: Any, **kwargs: Any) -> _Node:
        if isinstance(node, _WHOLE):
            name = type(node).__name__.lower()
            raise exceptions.SecurityError(
                f"line {node.lineno}: {name} of another template: expected all in this one"
            )
        super().generic_visit(node, *args, **kwargs)
        return node

    def _begin(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        """What the template itself writes in the body is made anew with each turn."""
        written = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        step = _call("tick", [nodes.Const(written, lineno=node.lineno)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node

    def _keep(self, node: nodes.List | nodes.Dict | nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _call("kept", [node], node.lineno)


def _call(name: str, arguments: list[nodes.Expr], lineno: int) -> nodes.Call:
    called = nodes.EnvironmentAttribute(name, lineno=lineno)
    return nodes.Call(called, arguments, [], None, None, lineno=lineno)


def _written(value: Any) -> Any:
    """What an output expression writes, before it becomes text."""
    granted = budget.current()
    if not isinstance(value, str):
        granted.check_size(budget.measure(value, most=granted.size_max))
        value = str(value)
    granted.spend(made=len(value))
    return value


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes nothing too large and whose result is kept."""

    def filtered(*args: Any, **kwargs: Any) -> Any:
        granted = budget.current()
        granted.spend()
        _check_arguments((*args, *kwargs.values()))
        return granted.keep(function(*args, **kwargs))

    filtered.__dict__.update(getattr(function, "__dict__", {}))  # what jinja2 passes to it
    return filtered


def _check_arguments(values: Iterable[Any]) -> None:
    """Text written block by block can be larger than other values; nothing takes it."""
    granted = budget.current()
    for value in values:
        if isinstance(value, str | list | tuple | dict):
            granted.check_size(len(value))


def _check_operands(operator: str, left: Any, right: Any) -> None:
    """Before an operator whose result can be far larger than what it takes."""
    granted = budget.current()
    granted.spend()
    whole = isinstance(left, int) and isinstance(right, int)
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, str | list | tuple) and isinstance(times, int):
                granted.check_size(len(many) * max(times, 0))
    elif operator == "**" and whole and left.bit_length() * abs(right) > _BITS_MAX:
        raise budget.BudgetError(f"it makes an integer of more than {_BITS_MAX} bits")
    elif operator == "%" and isinstance(left, str):
        _check_percent(left)


def _check_percent(text: str) -> None:
    if _WIDE_PERCENT.search(text):
        raise budget.BudgetError("it pads by a width of five digits, or one from elsewhere")


def _check_method(called: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Before a method of a text that can make a far larger one."""
    text, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
    if not isinstance(text, str):
        return
    if name == "replace" and len(args) >= 2 and not kwargs:
        _check_replace(text, args[0], args[1])
    elif name == "join" and len(args) == 1:
        _check_join(text, args[0])


def _check_replace(text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str):
        granted = budget.current()
        granted.check_size(len(text) + text.count(old) * len(new))


def _check_join(between: str, items: Any) -> None:
    granted = budget.current()
    size = budget.measure(items, most=granted.size_max)
    granted.check_size(size + len(between) * (len(items) if hasattr(items, "__len__") else 0))


def _range(*limits: int) -> range:
    made = range(*limits)
    if len(made) > _RANGE_MAX:
        raise budget.BudgetError(f"it makes a range of more than {_RANGE_MAX}")
    return made


@jinja2.pass_eval_context
def _join(
    context: nodes.EvalContext, value: Iterable[Any], d: str = "", attribute: Any = None
) -> str:
    items = budget.current().keep(list(value))
    _check_join(str(d), items)
    return filters.sync_do_join(context, items, d, attribute)


@jinja2.pass_eval_context
def _replace(
    context: nodes.EvalContext, s: str, old: str, new: str, count: int | None = None
) -> str:
    _check_replace(str(s), str(old), str(new))
    return filters.do_replace(context, str(s), old, new, count)


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    length = len(width) if isinstance(width, str) else width
    _check_padding(length)
    granted = budget.current()
    granted.check_size(len(s) + length * (len(s.splitlines()) + 1))
    return filters.do_indent(s, width, first, blank)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    _check_padding(abs(precision))
    return filters.do_round(value, precision, method)


def _format(value: str, *args: Any, **kwargs: Any) -> str:
    _check_percent(str(value))
    return filters.do_format(value, *args, **kwargs)


def _check_padding(width: int) -> None:
    if width > _PADDING_MAX:
        raise budget.BudgetError(f"it pads by {width}, more than {_PADDING_MAX}")
