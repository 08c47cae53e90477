"""Four bugs put on purpose into the production code: random servers must find each soon.

Knows: which bugs. Does not know: where a seed meets them. `PagePool`'s own check is
off for those that hand out a page too early: it is the tokens that tell.
"""

from __future__ import annotations

import pytest

from aqua_jax.control import pages
from aqua_jax.simulation.fuzz import servers, verdict, whole
from tests.simulation import mutants, test_lender_mutations, test_mutations

SEEDS_MAX = 200
ROUNDS_MAX = 10_000  # of a run: more is stuck

EARLY_PAGES = {
    "a_page_is_freed_while_a_copy_reads_it": test_mutations.readers_are_ignored,
    "a_page_is_freed_on_abort_while_the_slice_in_flight_writes_it": (
        test_mutations.drop_ignores_the_last_dispatch
    ),
}
OTHERS = {
    "generations_are_not_checked": test_lender_mutations.generations_are_not_checked,
    "a_reclaim_frees_before_the_copy_is_done": (
        test_lender_mutations.a_reclaim_frees_before_the_copy_is_done
    ),
}


def first_failure(patch: mutants.Patch, kinds: type[Exception]) -> int | None:
    """The first seed that raises one of them; None: no seed of `SEEDS_MAX` does."""
    patch.setattr(whole, "ROUNDS_MAX", ROUNDS_MAX)
    for seed in range(SEEDS_MAX):
        try:
            whole.run(servers.draw(seed))
        except kinds:
            return seed
        except Exception:
            continue
    return None


@pytest.mark.parametrize("name", sorted(EARLY_PAGES))
def test_tokens_tell_of_a_page_handed_out_early(name: str, monkeypatch: mutants.Patch) -> None:
    monkeypatch.setattr(pages.PagePool, "check_integrity", lambda self: None)
    EARLY_PAGES[name](monkeypatch)
    found = first_failure(monkeypatch, verdict.WrongTokensError)
    assert found is not None


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_seed_finds_it(name: str, monkeypatch: mutants.Patch) -> None:
    OTHERS[name](monkeypatch)
    found = first_failure(monkeypatch, Exception)
    assert found is not None
