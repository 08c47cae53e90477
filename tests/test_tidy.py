"""Style as a test, where a machine can tell.

Knows: the tree as files and syntax trees. Imports nothing it judges, save in
the one subprocess that looks at what importing the control plane brings along.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import functools
import graphlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 80
COLUMNS_MAX = 100  # of native files; ruff sees to Python's

TOP_FOLDERS = {"aqua_jax", "models", "xla_ext", "configs", "tests"}
TOP_FILES = {
    "ARCHITECTURE.md",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
}

# Folder -> what of this project it may import, itself included. A new folder gets a row here.
ARROWS = {
    "aqua_jax/control": ["aqua_jax.control"],
    "aqua_jax/engine": ["aqua_jax.control", "aqua_jax.engine"],
    "aqua_jax/memory": ["aqua_jax.control", "aqua_jax.engine.protocols", "aqua_jax.memory"],
    "aqua_jax/loops": [
        "aqua_jax.control",
        "aqua_jax.engine.protocols",
        "aqua_jax.memory",
        "aqua_jax.loops",
    ],
    "aqua_jax/tokens": ["aqua_jax.control.errors", "aqua_jax.engine.streams", "aqua_jax.tokens"],
    "aqua_jax/workloads": ["aqua_jax.control", "aqua_jax.engine", "aqua_jax.workloads"],
    "aqua_jax/simulation": [
        "aqua_jax.control",
        "aqua_jax.engine",
        "aqua_jax.workloads",
        "aqua_jax.simulation",
    ],
    "aqua_jax/experiments": ["aqua_jax"],  # with the doors on top of everything
    "aqua_jax": ["aqua_jax"],  # the doors and what they share stand on top
    "models": ["aqua_jax", "models"],
    "configs": ["aqua_jax", "models", "configs"],
    "configs/peers": [],  # scripts for other engines' environments, where nothing of ours is
}
# A model may use these parts of aqua_jax; all others are nobody's business but aqua_jax's.
PUBLIC_TO_MODELS = ("aqua_jax.control.errors", "aqua_jax.control.types", "aqua_jax.loops")

# Folder -> packages it must not import, by way of others neither.
FORBIDDEN = {
    "aqua_jax/control": {"jax", "jaxlib", "numpy", "flax"},
    "aqua_jax/engine": {"jax", "jaxlib", "numpy", "flax"},
    "aqua_jax/tokens": {"jax", "jaxlib", "flax"},
    "aqua_jax/workloads": {"jax", "jaxlib", "flax"},
}
PLAIN_FOLDERS = ("aqua_jax/control", "aqua_jax/engine")
PLAIN_PACKAGES = {"sortedcontainers"} | sys.stdlib_module_names

DOORS = {"aqua_jax/run.py", "aqua_jax/coordinate.py", "aqua_jax/serve.py"}
PRINTERS = DOORS | {"aqua_jax/workloads/live.py", "aqua_jax/workloads/tables.py"}

# Source files without a test file of their own, each with the reason.
UNTESTED = {
    "aqua_jax/control/errors.py": "classes without behaviour; its example is a doctest",
    "aqua_jax/control/types.py": "plain values",
    "aqua_jax/engine/protocols.py": "signatures; each implementation's suite tests them",
    "aqua_jax/workloads/records.py": "plain values",
}

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b")
SUPPRESSION = re.compile(
    r"#\s*(?:type:\s*ignore|pyright:\s*ignore|noqa)(?P<rule>\[\w+|:\s*[A-Z]+\d+)?(?P<rest>.*)"
)
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(work|root|home)/")


@dataclasses.dataclass(frozen=True)
class Source:
    """One Python file: `path` from the project's root, its lines and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def folder(self) -> str:
        """The key of ARROWS that the file falls under; its folder where there is none."""
        folder = self.path.rpartition("/")[0]
        keys = [key for key in ARROWS if f"{folder}/".startswith(f"{key}/")]
        nearest = max(keys, key=len, default=folder)
        # A new folder inside aqua_jax does not inherit the freedom of the doors.
        return folder if nearest == "aqua_jax" and folder != "aqua_jax" else nearest

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported name, as written, and the module of this project that it is or lies in."""

    line: int
    name: str
    own_module: str | None
    level: int


def test_every_file_says_what_it_knows() -> None:
    assert not [
        source.path
        for source in sources("aqua_jax", "models", "configs", "tests")
        if source.text.strip() and not ast.get_docstring(source.tree)
    ], "files without a module docstring"


def test_imports_point_downward() -> None:
    wrong = []
    for source in sources("aqua_jax", "models", "configs"):
        assert source.folder in ARROWS, f"{source.path}: add {source.folder} to ARROWS"
        for entry in imports(source):
            own = entry.own_module
            if own and not any(is_under(own, allowed) for allowed in ARROWS[source.folder]):
                wrong.append(f"{source.path}:{entry.line} imports {entry.name}")
            if entry.name.partition(".")[0] == "tests":
                wrong.append(f"{source.path}:{entry.line} imports {entry.name}")
    assert not wrong, "\n".join(wrong)


def test_models_use_public_names_only() -> None:
    wrong = [
        f"{source.path}:{entry.line} imports {entry.name}"
        for source in sources("models")
        for entry in imports(source)
        if entry.own_module
        and is_under(entry.own_module, "aqua_jax")
        and entry.own_module != "aqua_jax"
        and not any(is_under(entry.own_module, public) for public in PUBLIC_TO_MODELS)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    files = sources("aqua_jax", "models", "configs")
    graph = {
        source.module: {entry.own_module for entry in imports(source) if entry.own_module}
        for source in files
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("import cycle: " + " <- ".join(error.args[1]))


def test_imports_are_absolute_at_the_top_and_of_modules() -> None:
    wrong = []
    for source in sources("aqua_jax", "models", "configs"):
        for entry in imports(source):
            where = f"{source.path}:{entry.line}"
            if entry.level:
                wrong.append(f"{where} imports relatively")
            # A package's __init__ gathers names; everybody else names the module.
            names = source.path.endswith("__init__.py")
            if entry.own_module and entry.own_module != entry.name and not names:
                wrong.append(f"{where} imports a name, {entry.name}: import {entry.own_module}")
        for function in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda):
            wrong += [
                f"{source.path}:{node.lineno} imports inside a function"
                for node in ast.walk(function)
                if isinstance(node, ast.Import | ast.ImportFrom)
            ]
    assert not wrong, "\n".join(wrong)


def test_packages_stay_where_they_belong() -> None:
    wrong = []
    for source in sources("aqua_jax"):
        for entry in imports(source):
            package = entry.name.partition(".")[0]
            where = f"{source.path}:{entry.line} imports {entry.name}"
            if package in FORBIDDEN.get(source.folder, ()):
                wrong.append(where)
            if source.folder in PLAIN_FOLDERS and package not in PLAIN_PACKAGES | {"aqua_jax"}:
                wrong.append(f"{where}: standard library and sortedcontainers only")
            flags = package == "absl" or is_under(entry.name, "ml_collections.config_flags")
            if flags and source.path not in DOORS:
                wrong.append(f"{where}: flags belong to {', '.join(sorted(DOORS))}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_importing_brings_nothing_along(folder: str) -> None:
    modules = ["aqua_jax", *(source.module for source in sources(folder))]
    program = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    brought = set(run.stdout.split())
    # Without absl no flag can have been defined.
    assert not brought & (FORBIDDEN[folder] | {"absl"})


def test_every_source_has_a_test_file() -> None:
    files = {source.path for source in sources("aqua_jax", "models")}
    missing = [
        f"{path} (expected {' or '.join(expected_tests(path))})"
        for path in sorted(files)
        if not path.endswith("__init__.py")
        and path not in UNTESTED
        and not any((ROOT / test).is_file() for test in expected_tests(path))
    ]
    assert not missing, "\n".join(missing)
    assert UNTESTED.keys() <= files, "UNTESTED names files that are gone"


def test_sizes() -> None:
    wrong = []
    for source in sources("aqua_jax", "models", "configs", "tests"):
        if len(source.lines) > FILE_LINES_MAX:
            wrong.append(f"{source.path}: {len(source.lines)} lines, at most {FILE_LINES_MAX}")
        for function in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                wrong.append(
                    f"{source.path}:{function.lineno} {function.name}:"
                    f" {lines} lines, at most {FUNCTION_LINES_MAX}"
                )
    assert not wrong, "find the two ideas and part them:\n" + "\n".join(wrong)


def test_xla_ext_holds_cpp_and_cuda_alone() -> None:
    suffixes = {".h", ".cc", ".cu", ".cuh"}
    stray = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "xla_ext").rglob("*")
        if path.is_file() and path.suffix not in suffixes and path.name != "CMakeLists.txt"
    ]
    assert not stray, f"no C++ and no CUDA: {stray}"
    assert native_files(), "xla_ext is empty"


def test_every_native_file_says_what_it_knows_and_is_of_a_size() -> None:
    wrong = []
    for path in native_files():
        lines = (ROOT / path).read_text("utf-8").splitlines()
        # Of a source with a header, the header says it.
        header = (ROOT / path).with_suffix(".h")
        if not lines[0].startswith("// ") and not (path.endswith(".cc") and header.is_file()):
            wrong.append(f"{path} does not begin with a comment that says what it knows")
        if len(lines) > FILE_LINES_MAX:
            wrong.append(f"{path}: {len(lines)} lines, at most {FILE_LINES_MAX}")
        wrong += [
            f"{path}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"
            for number, line in enumerate(lines, 1)
            if len(line) > COLUMNS_MAX
        ]
    assert not wrong, "\n".join(wrong)


def test_a_header_is_guarded_by_its_path() -> None:
    wrong = []
    for path in native_files():
        guard = f"AQUA_{path.removeprefix('xla_ext/').upper()}_"
        guard = re.sub(r"[/.]", "_", guard).replace("AQUA_AQUA_", "AQUA_")
        if path.endswith((".h", ".cuh")) and f"#define {guard}\n" not in (ROOT / path).read_text():
            wrong.append(f"{path} lacks its guard, {guard}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_unfinished_or_tied_to_a_machine() -> None:
    wrong = [
        f"{path}:{number} {line.strip()}"
        for path in text_files()
        if path != "tests/test_tidy.py"
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1)
        if UNFINISHED.search(line) or MACHINE_PATH.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_suppression_names_its_rule_and_its_reason() -> None:
    wrong = []
    for source in sources("aqua_jax", "models", "configs", "tests"):
        for number, line in enumerate(source.lines, 1):
            found = SUPPRESSION.search(line)
            above = source.lines[number - 2].strip() if number > 1 else ""
            if found and not (found["rule"] and ("#" in found["rest"] or above.startswith("#"))):
                wrong.append(f"{source.path}:{number} {line.strip()}")
    assert not wrong, "give the rule and, beside it or on the line above, why:\n" + "\n".join(wrong)


def test_only_the_doors_print() -> None:
    wrong = [
        f"{source.path}:{node.lineno} prints"
        for source in sources("aqua_jax", "models")
        if source.path not in PRINTERS
        for node in source.nodes(ast.Call)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_top_level() -> None:
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    stray = [
        entry.name
        for entry in ROOT.iterdir()
        if entry.name[0] != "."  # an editor's or a tool's own
        if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignored)
        if entry.name not in (TOP_FOLDERS if entry.is_dir() else TOP_FILES)
    ]
    assert not stray, f"{stray}: say in ARCHITECTURE.md why there is a new one, then add it here"


def test_no_empty_packages() -> None:
    filled = [source.path for source in sources("aqua_jax", "models") if source.text.strip()]
    empty = [
        source.path
        for source in sources("aqua_jax", "models")
        if source.path.endswith("__init__.py")
        if not any(path.startswith(source.path.removesuffix("__init__.py")) for path in filled)
    ]
    assert not empty, f"packages without content: {empty}"


def test_configs_name_their_command() -> None:
    wrong = []
    for source in sources("configs"):
        if source.folder == "configs/peers":
            continue
        docstring = ast.get_docstring(source.tree) or ""
        # Long commands are broken by a backslash.
        command = rf"python -m aqua_jax\.\w+ .*--config[= ]{re.escape(source.path)}"
        if not re.search(command, docstring.replace("\\\n", " ")):
            wrong.append(
                f"{source.path}: its docstring lacks `python -m aqua_jax.run --config=...`"
            )
    assert not wrong, "\n".join(wrong)


@functools.cache
def sources(*folders: str) -> list[Source]:
    """Every Python file under `folders`, parsed."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    texts = [(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]
    return [Source(path, text, ast.parse(text, path)) for path, text in texts]


def imports(source: Source) -> list[Import]:
    """Everything the file imports, wherever it stands; `from a import b` is `a.b`."""
    found = []
    for node in source.nodes(ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, a.name, own_module(a.name), 0) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module or ''}.{alias.name}"
                found.append(Import(node.lineno, name, own_module(name), node.level))
    return found


def own_module(name: str) -> str | None:
    """The module of this project that `name` is or lies in, None for another's.

    `aqua_jax.control.errors.AquaError` lies in `aqua_jax.control.errors`.
    """
    if name.partition(".")[0] not in ("aqua_jax", "models", "configs"):
        return None
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return name
    return name.rpartition(".")[0]


def is_under(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def expected_tests(path: str) -> list[str]:
    """Where the tests of a source file may be: its own file, or the suite of its folder.

    aqua_jax/memory/movers/xla.py: tests/memory/movers/test_xla.py, tests/memory/test_movers.py.
    """
    inside = path.removeprefix("aqua_jax/")
    folder, _, name = inside.rpartition("/")
    above, _, last = folder.rpartition("/")
    own = f"tests/{folder}/test_{name}" if folder else f"tests/test_{name}"
    suite = f"tests/{above}/test_{last}.py" if above else f"tests/test_{last}.py"
    return [own, suite] if folder else [own]


def native_files() -> list[str]:
    """The C++ and CUDA files."""
    return [path for path in text_files() if path.startswith("xla_ext/") and "CMake" not in path]


def text_files() -> list[str]:
    """The files people read: sources, documents, build files."""
    inside = [
        path
        for folder in TOP_FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".cc", ".cu", ".cuh", ".h", ".txt")
    ]
    top = [ROOT / name for name in (*TOP_FILES, ".ci/run") if (ROOT / name).is_file()]
    return sorted(path.relative_to(ROOT).as_posix() for path in (*inside, *top))
