"""Bugs put on purpose into the reuse of prefixes: the random runs must notice each of them.

Knows: what a plausible mistake in keys, index and sharing looks like. A mutant that
survives is a test that is missing. Where integrity would tell first it is switched
off, so that it is the tokens that tell.
"""

from __future__ import annotations

from typing import Any

import pytest

from aqua_jax.control import pages, prefixes, residency, sharing
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import verdict
from tests.simulation import mutants


def keys_ignore_the_salt(patch: mutants.Patch) -> None:
    def page_keys(original: Any, self: Any, session: Any, first: Any, end: Any) -> Any:
        size, known = self._memory.page_units, self._known(session)
        return [toy.mix(*known[: (page + 1) * size]) for page in range(first, end)]

    mutants.wrap(patch, toy.ToyRunner, "page_keys", page_keys)


def a_shared_page_goes_when_the_first_owner_ends(patch: mutants.Patch) -> None:
    def release(original: Any, self: Any, which: Any, owner: Any, last: Any = 0) -> Any:
        which = [page for page in which if owner in self._owners[page]]
        for page in which:
            if len(self._owners[page]) > 1:
                self._owners[page] = {owner: 1}
                if page in self._kept:
                    self._kept.pop(page)()
        original(self, which, owner, last)

    mutants.wrap(patch, pages.PagePool, "release", release)


def the_index_outlives_the_pool(patch: mutants.Patch) -> None:
    patch.setattr(prefixes.Index, "void", lambda self: None)


def the_index_outlives_a_lender(patch: mutants.Patch) -> None:
    patch.setattr(prefixes.Index, "void_space", lambda self, tier: None)


def pages_are_named_before_they_are_planned(patch: mutants.Patch) -> None:
    def begin_with(original: Any, self: Any, session: Any, count: Any) -> Any:
        copies = original(self, session, count)
        if self.sharing.is_on and not session.sheds:
            holding = self._holdings[session.id]
            keys = self.sharing._keys(session, self.sharing._full(session, session.known))
            for key, page in zip(keys, holding.device, strict=False):
                if not self.device.is_kept(page):
                    self.sharing.index.add(key, page)
        return copies

    mutants.wrap(patch, residency.Residency, "begin_with", begin_with)


def evictions_are_not_told(patch: mutants.Patch) -> None:
    patch.setattr(pages.PagePool, "keep", _keep_untold)


def _keep_untold(self: Any, page: int, on_evict: Any) -> None:
    self._kept[page] = lambda: None


def a_shared_page_is_used_before_it_has_arrived(patch: mutants.Patch) -> None:
    def wait(original: Any, self: Any, session: Any, holding: Any, place: Any) -> Any:
        if place.space != 0:
            original(self, session, holding, place)

    mutants.wrap(patch, sharing.Sharing, "_wait", wait)


def a_shared_copy_counts_as_made_when_it_is_planned(patch: mutants.Patch) -> None:
    def wait(original: Any, self: Any, session: Any, holding: Any, place: Any) -> Any:
        if place.space == 0:
            original(self, session, holding, place)

    mutants.wrap(patch, sharing.Sharing, "_wait", wait)


def a_failed_copy_of_a_shared_page_counts_as_made(patch: mutants.Patch) -> None:
    def arrived(original: Any, self: Any, place: Any, *, ok: Any) -> Any:
        original(self, place, ok=True)

    mutants.wrap(patch, prefixes.Index, "arrived", arrived)


def who_waits_is_not_told_of_failures(patch: mutants.Patch) -> None:
    def finish(original: Any, self: Any, copy: Any, *, ok: Any) -> Any:
        return original(self, copy, ok=ok) if ok else []

    mutants.wrap(patch, sharing.Sharing, "finish", finish)


def pages_that_are_not_full_are_shared(patch: mutants.Patch) -> None:
    def keyed(original: Any, self: Any, session: Any) -> Any:
        return len(session.page_keys)

    mutants.wrap(patch, sharing.Sharing, "_keyed", keyed)


def the_last_unit_is_reused_too(patch: mutants.Patch) -> None:
    def full(original: Any, self: Any, session: Any, units: Any) -> Any:
        return original(self, session, units + (units == session.known - 1))

    mutants.wrap(patch, sharing.Sharing, "_full", full)


MUTANTS: dict[str, mutants.Mutate] = {
    mutate.__name__: mutate
    for mutate in (
        keys_ignore_the_salt,
        the_index_outlives_a_lender,
        a_shared_page_goes_when_the_first_owner_ends,
        evictions_are_not_told,
        a_shared_copy_counts_as_made_when_it_is_planned,
        a_failed_copy_of_a_shared_page_counts_as_made,
        who_waits_is_not_told_of_failures,
        pages_that_are_not_full_are_shared,
        the_last_unit_is_reused_too,
    )
}
TOLD_BY_TOKENS: dict[str, mutants.Mutate] = {
    mutate.__name__: mutate
    for mutate in (
        the_index_outlives_the_pool,
        pages_are_named_before_they_are_planned,
        a_shared_page_is_used_before_it_has_arrived,
    )
}


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_random_runs_notice(name: str, monkeypatch: mutants.Patch) -> None:
    MUTANTS[name](monkeypatch)
    assert next(mutants.failures(monkeypatch), None) is not None


@pytest.mark.parametrize("name", sorted(TOLD_BY_TOKENS))
def test_tokens_tell(name: str, monkeypatch: mutants.Patch) -> None:
    monkeypatch.setattr(sharing.Sharing, "check_integrity", lambda self, sessions: None)
    monkeypatch.setattr(pages.PagePool, "check_integrity", lambda self: None)
    TOLD_BY_TOKENS[name](monkeypatch)
    assert any(
        isinstance(error, verdict.WrongTokensError) for error in mutants.failures(monkeypatch)
    )
