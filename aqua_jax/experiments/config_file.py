"""Loads a config, a Python file with `get_config()`, and says in one line what is wrong with it.

Knows: files and Python's errors. Does not know: flags, what settings mean.
"""

from __future__ import annotations

import difflib
import pathlib
import traceback
import types
from typing import Any

import ml_collections

from aqua_jax.control import errors


def load(given: str) -> ml_collections.ConfigDict:
    """What `get_config()` of the file returns; of `FILE:TEXT`, `get_config(TEXT)`.

    The file is run anew each time. Raises ConfigError that names file and line.
    """
    path, *argument = given.split(":", 1)
    module = _run(path)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise errors.ConfigError(f"{path}: no function get_config(); it has to return the config")
    config = _call(path, get_config, *argument)
    if not isinstance(config, ml_collections.ConfigDict):
        raise errors.ConfigError(
            f"{path}: get_config() returned {type(config).__name__}; expected a ConfigDict:"
            " return overrides.to_config_dict(settings.Experiment(...))"
        )
    return config


def _run(path: str) -> types.ModuleType:
    """The file's module, executed; it is not kept in sys.modules."""
    module = types.ModuleType("config")
    module.__file__ = path
    try:
        source = pathlib.Path(path).read_bytes()
        code = compile(source, path, "exec", dont_inherit=True)
    except OSError as error:
        raise errors.ConfigError(
            f"--config={path}: {error.strerror}{_others(path)}; give a Python file"
        ) from None
    except SyntaxError as error:
        raise errors.ConfigError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # a null byte
        raise errors.ConfigError(f"{path}: {error}; expected a Python file") from None
    _call(path, lambda: exec(code, module.__dict__))
    return module


def _call(path: str, function: Any, *args: str) -> Any:
    """`function(*args)`; what it raises becomes one line with the file's line number."""
    try:
        return function(*args)
    except errors.InternalError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame.lineno for frame in frames if frame.filename == path]
        line = f", line {inside[-1]}" if inside else ""
        name = "" if isinstance(error, errors.AquaError) else f"{type(error).__name__}: "
        raise errors.ConfigError(f"{path}{line}: {name}{error}") from error


def _others(path: str) -> str:
    """A hint when a file of a similar name lies in the same folder."""
    folder = pathlib.Path(path).parent
    known = [str(folder / other.name) for other in folder.glob("*.py")]
    near = difflib.get_close_matches(path, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
