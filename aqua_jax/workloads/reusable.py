"""How much of a workload could be reused at best: blocks that earlier prompts began with too.

Knows: arrivals with prefix ids. Does not know: pages, memory, who runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from aqua_jax.workloads import records


def share(arrivals: Sequence[records.Arrival]) -> float:
    """The share, 0 to 1, of all prompt tokens that lie in reusable blocks; 0 without prompts.

    A block is reusable when it is whole, and an earlier arrival of the same tenant had it, and
    all blocks before it, at the same place.
    """
    seen: set[tuple[str, tuple[int, ...]]] = set()
    reusable = total = 0
    for arrival in arrivals:
        total += arrival.prompt_tokens
        whole = 0
        if arrival.prefix_block_tokens:
            whole = min(
                len(arrival.prefix_ids), arrival.prompt_tokens // arrival.prefix_block_tokens
            )
        chains = [(arrival.tenant, arrival.prefix_ids[:end]) for end in range(1, whole + 1)]
        reusable += sum(chain in seen for chain in chains) * arrival.prefix_block_tokens
        seen.update(chains)
    return reusable / total if total else 0.0
