"""Two orders: which lender serves a borrower first, and which grant is called first.

Knows: pairs, grants, how much is free. Does not know: transitions, clients.
Both are total, ties are broken by id, and neither looks at a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aqua_jax.control import lease_types


def lenders(
    borrower: str,
    free_counts: Mapping[str, int],
    grants: Iterable[lease_types.Grant],
    pairs: Mapping[str, str],
) -> list[str]:
    """Those with something free, the best first.

    1. fewest other borrowers: they share its link (four on 200 GB/s get what PCIe gives each);
    2. the borrower's paired lender: placed next to it, so that this is the usual case;
    3. one that is nobody's pair: another's pair is shared as soon as that one borrows;
    4. most free units: fewer grants for the rest;
    5. id.
    """
    others: dict[str, dict[str, None]] = {}
    for grant in grants:
        if grant.borrower != borrower:
            others.setdefault(grant.lender, {})[grant.borrower] = None
    promised = {lender: None for other, lender in pairs.items() if other != borrower}

    def key(lender: str) -> tuple[int, bool, bool, int, str]:
        return (
            len(others.get(lender, ())),
            pairs.get(borrower) != lender,
            lender in promised,
            -free_counts[lender],
            lender,
        )

    return sorted((lender for lender, count in free_counts.items() if count), key=key)


def calls(
    lender: str,
    grants: Sequence[lease_types.Grant],
    pairs: Mapping[str, str],
    wanted: Sequence[tuple[int, float]],
) -> list[lease_types.Call]:
    """What each of the lender's grants must give back; `wanted`: (units, deadline), earliest first.

    Grants of guests, whose pair is not this lender, are called first: they spilled over to here,
    while the paired borrower has its nearest memory here. Among equals the youngest:
    it has had the least use of what it copied, and the oldest keep their long runs. Each is called
    whole before the next, so a reclaim disturbs few borrowers. Nothing is granted while a reclaim
    is open, so the order stays, and what a grant owes shrinks with what comes back from whomever.
    """
    order = sorted(grants, key=lambda g: (pairs.get(g.borrower) == lender, -g.generation))
    called: list[lease_types.Call] = []
    owed = [(count, deadline) for count, deadline in wanted if count]
    for grant in order:
        left = grant.units_count
        while left and owed:
            count, deadline = owed[0]
            part = min(left, count)
            called.append(lease_types.Call(grant.id, grant.generation, lender, part, deadline))
            left -= part
            owed[:1] = [(count - part, deadline)] if count > part else []
    return called
