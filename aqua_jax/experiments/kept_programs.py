"""Compiled programs are kept from run to run, by jax's persistent cache.

Knows: jax's settings of that cache, a folder of the user's. Does not know: programs.
JAX_COMPILATION_CACHE_DIR says where instead, JAX_ENABLE_COMPILATION_CACHE=0 that none are kept.
"""

from __future__ import annotations

import os
import pathlib

import jax

from aqua_jax.experiments import link_cache


def folder() -> pathlib.Path:
    """Where programs are kept: jax's own setting, else `aqua_jax/programs` beside `links`."""
    chosen = jax.config.values["jax_compilation_cache_dir"]
    return pathlib.Path(chosen) if chosen else link_cache.folder().with_name("programs")


def keep() -> str:
    """Makes jax keep every program, small ones too; says where, or why it does not."""
    if not jax.config.values["jax_enable_compilation_cache"]:
        return "programs are not kept: JAX_ENABLE_COMPILATION_CACHE is off"
    where = folder()
    try:
        where.mkdir(parents=True, exist_ok=True)
        writable = os.access(where, os.W_OK)
    except (OSError, RuntimeError) as error:
        return f"programs are not kept: {where}: {getattr(error, 'strerror', error)}"
    if not writable:
        return f"programs are not kept: {where} is not writable"
    jax.config.update("jax_compilation_cache_dir", str(where))
    # A start has some seventy small programs, which take longer than the few large ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return f"programs are kept in {where}"
