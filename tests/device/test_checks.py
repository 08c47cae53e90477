"""The checks of this folder as tests: over the CPU library always, over CUDA where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.device import checks_attention, checks_memory, checks_moves
from tests.device import place as places
from tests.memory import parts

CHECKS = (*checks_memory.CHECKS, *checks_moves.CHECKS, *checks_attention.CHECKS)
PLATFORMS = (
    pytest.param("cpu", marks=parts.needs_native),
    pytest.param("CUDA", marks=pytest.mark.device),
)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_check(check: Callable[[places.Place], None], platform: str) -> None:
    check(places.Place(platform, tiny=platform == "cpu"))
