"""Random servers with faults: the production controller, engine, residency, leases on toy devices.

A seed draws one to three engines that borrow, one or two lenders (a pool, or memory of its own),
policies, clients that abort, stall and time out, links that are slow, overtake, refuse, fail and
corrupt, slices that fail, processes that die, hang, fall silent and come back, a ledger that
restarts, messages that are lost, late and doubled, clocks that leap. Integrity is checked after
every turn; at the end every request has its end and its tokens, every page and unit is home.

Command: `python -m aqua_jax.run --config=configs/fuzz.py --config.seeds=1000 --workdir=out/fuzz`;
`--config.first_seed=N --config.seeds=1` replays seed N.
Hardware: the host alone, all cores.
Time: 3 minutes on 2 quiet cores, 7 on busy ones.
Expect: 1000 seeds, every promise kept; exit code 1 and the seed where one was not. `counts` in
report.json says what was met: no figure there ought to be 0.
"""

from __future__ import annotations

import ml_collections

from aqua_jax.experiments import fuzzing, overrides


def get_config() -> ml_collections.ConfigDict:
    """The settings; any of them can be changed with --config.key=value."""
    return overrides.fuzz_config_dict(fuzzing.Fuzz())
