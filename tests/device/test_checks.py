"""The checks of this folder as tests: over the CPU library always, over CUDA where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aqua_jax.memory import native
from tests.device import checks_attention, checks_memory, checks_moves
from tests.device import place as places

CHECKS = (*checks_memory.CHECKS, *checks_moves.CHECKS, *checks_attention.CHECKS)
PLATFORMS = (
    pytest.param("cpu", marks=pytest.mark.skipif(
        not native.available("cpu"), reason=native.missing_reason("cpu")
    )),
    pytest.param("CUDA", marks=pytest.mark.device),
)  # fmt: skip


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_check(check: Callable[[places.Place], None], platform: str) -> None:
    check(places.Place(platform, tiny=platform == "cpu"))
