"""Random scenarios: small enough to run in milliseconds, hostile enough to meet every case.

Knows: the ranges. The same seed draws the same scenario. Does not know: how it runs.
"""

from __future__ import annotations

import dataclasses

from aqua_jax.control import types
from aqua_jax.control.policies import base
from aqua_jax.simulation import toy
from aqua_jax.simulation.fuzz import bench, draws, homes, leased

# The states that pass quickly come up more often, or hardly anybody would be aborted in them.
_ABORTABLE = (
    types.State.WAITING,
    types.State.RUNNING,
    types.State.PAUSED,
    *[types.State.LEAVING, types.State.AWAY, types.State.ARRIVING] * 3,
)

_APART = ("vtc", "eevdf", "mlfq", "srpt", "buffered")


def draw(seed: int) -> bench.Scenario:
    """A random scenario of an engine alone: now roomy, now cramped; now calm, now hostile."""
    scenario = share_prefixes(draw_engine(seed), draws.Draws(seed, "prefix"))
    last = scenario.clients[-1].arrives_at
    loans = homes.draw(seed, last + 0.1)
    lease = None if loans else leased.draw(seed, last + 0.2)
    rng = draws.Draws(seed, "lent")
    if lease:
        return dataclasses.replace(borrow(scenario, rng), lease=lease)
    if loans:  # little other memory, so that it matters
        scenario = cut_tiers(scenario, rng.between(0, 2))
    return dataclasses.replace(scenario, loans=loans)


def share_prefixes(scenario: bench.Scenario, rng: draws.Draws) -> bench.Scenario:
    """Of half of the scenarios the same with clients whose prompts begin alike, and reuse."""
    if not rng.chance(0.5):
        return scenario
    common = [
        rng.between(0, 99) for _ in range(max(c.request.prompt_units for c in scenario.clients))
    ]
    clients = []
    for client in scenario.clients:
        request, prompt = client.request, client.request.payload.prompt
        shared = rng.one_of([0, rng.between(0, len(prompt)), len(prompt), len(prompt)])
        payload = dataclasses.replace(request.payload, prompt=(*common[:shared], *prompt[shared:]))
        request = dataclasses.replace(
            request, payload=payload, cache_salt=rng.one_of([None, "", "", "salt"])
        )
        clients.append(dataclasses.replace(client, request=request))
        if rng.chance(0.2):  # samples of one prompt
            clients += [dataclasses.replace(client, request=request, abort_at=None)] * rng.between(
                1, 3
            )
    return dataclasses.replace(scenario, clients=tuple(clients), prefix_reuse=True)


def borrow(scenario: bench.Scenario, rng: draws.Draws) -> bench.Scenario:
    """The same engine as a borrower: with little other memory, so that what is lent matters."""
    scenario = cut_tiers(scenario, rng.between(0, 2))
    if rng.chance(0.7):  # what is borrowed is to be used
        policy = dataclasses.replace(
            scenario.policy,
            name="cfs",
            quantum_tokens=rng.between(1, 4),
            prefill_quantum_tokens=rng.between(1, 4),
            newcomer_quantum_tokens=1,
        )
        scenario = dataclasses.replace(cut_tiers(scenario, rng.between(0, 1)), policy=policy)
    # A copy of a borrower must not outlast what the ledger waits longer than it does.
    return dataclasses.replace(scenario, page_seconds=min(scenario.page_seconds, 1e-4))


def cut_tiers(scenario: bench.Scenario, count: int) -> bench.Scenario:
    """The same with that many tiers of its own at most; those who no longer fit are refused."""
    tier_pages = scenario.tier_pages[:count]
    attend_away = scenario.attend_away if tier_pages else types.AttendAway.OFF
    return dataclasses.replace(scenario, tier_pages=tier_pages, attend_away=attend_away)


def draw_engine(seed: int, *, page_units: int = 0, clients_most: int = 18) -> bench.Scenario:
    """An engine and its clients; memory is its own. page_units: 0: drawn."""
    rng = draws.Draws(seed, "scenario")
    # Drawn apart: the scenarios of a seed are the same but for their long sessions.
    long_rng = draws.Draws(seed, "long")
    policy_rng = draws.Draws(seed, "policy")
    page_units = page_units or rng.one_of([1, 2, 4])
    pool_pages = rng.between(8, 24)
    cramped, roomy = rng.between(1, 10), rng.between(20, 60)
    clients = _draw_clients(rng, (pool_pages - 1) * page_units, clients_most)
    last = clients[-1].arrives_at
    policy = _draw_policy(rng, policy_rng)
    tier_pages = rng.one_of(
        [(), (cramped,), (cramped, roomy), (1, roomy), (1, roomy), (roomy, roomy), (1, 2)]
    )
    attend_away = types.AttendAway.OFF
    if tier_pages and long_rng.chance(0.4):
        attend_away = types.AttendAway.LONG
    attend_rng = draws.Draws(seed, "attend")
    if tier_pages and attend_rng.chance(0.4):
        attend_away = types.AttendAway.ALL
    if attend_away.is_on:
        clients = _lengthen(long_rng, clients, pool_pages - 1, sum(tier_pages), page_units)
    return bench.Scenario(
        policy=policy,
        page_units=page_units,
        pool_pages=pool_pages,
        tier_pages=tier_pages,
        attend_away=attend_away,
        lanes=rng.between(1, 6),
        chunk_units=rng.one_of([2, 4, 8]),
        steps_max=rng.between(1, 5),
        controller={
            "steps_contended": rng.between(1, 4),
            "chunks_max": rng.between(1, 3),
            "looks_max": rng.one_of([1, 2, 8]),
            "passes_max": rng.one_of([1, 4]),
            "early_pages": rng.one_of([0, 2, 8]),
            "sessions_max": rng.one_of([3] + [1000] * 7),
        },
        stream_tokens_max=rng.one_of([1, 3, 65_536]),
        page_seconds=rng.one_of([1e-5, 1e-3, 5e-3]),
        faults=_draw_faults(rng),
        fail_at=_draw_failures(rng),
        clients=clients,
        drain_at=rng.within(0, 2 * last) if rng.chance(0.1) else None,
        drain_seconds=rng.one_of([0.0, 0.02, 10.0]),
    )


def _draw_policy(rng: draws.Draws, policy_rng: draws.Draws) -> base.PolicySettings:
    """Of one of three seeds the name is drawn apart, so that the others stay as they are."""
    settings = base.PolicySettings(
        name=rng.one_of(["fcfs", "fcfs_reserve", "cfs", "cfs", "cfs", "cfs_recompute"]),
        quantum_tokens=rng.one_of([1, 2, 8, 64]),
        prefill_quantum_tokens=rng.one_of([1, 8, 512]),
        tenant_weights=rng.one_of([{}, {"a": 3.0}]),
        newcomer_quantum_tokens=policy_rng.one_of([1, 8]),
        newcomer_lead_tokens=policy_rng.one_of([0.0, 4096.0]),
    )
    if not policy_rng.chance(1 / 3):
        return settings
    return dataclasses.replace(
        settings,
        name=policy_rng.one_of(_APART),
        sessions_fair=policy_rng.one_of((1, 8, 256)),
        reading_tokens_per_second=policy_rng.one_of((10.0, 300.0)),
    )


def _draw_faults(rng: draws.Draws) -> toy.ToyFaults:
    return toy.ToyFaults(
        seed=rng.between(0, 1 << 30),
        fail=rng.one_of([0, 0, 0.1, 0.5]),
        delay=rng.one_of([0, 0.5]),
        refuse=rng.one_of([0, 0, 0.1]),
        corrupt=rng.one_of([0, 0, 0.1]),
        delay_factor=10.0,
    )


def _draw_failures(rng: draws.Draws) -> frozenset[int]:
    """Dispatches that fail: mostly none, sometimes two, now and then enough to give all up."""
    if rng.chance(0.05):
        first = rng.between(1, 40)
        return frozenset(range(first, first + 12))
    return frozenset(rng.some(1, 299, 2)) if rng.chance(0.25) else frozenset()


def _draw_clients(rng: draws.Draws, units_max: int, most: int) -> tuple[bench.Client, ...]:
    gap_seconds = rng.one_of([1e-4, 1e-3, 1e-2])
    slow = rng.chance(0.5)  # some of the clients read late
    now = 0.0
    clients = []
    for _ in range(rng.between(3, most)):
        now += rng.within(0, 2 * gap_seconds)
        prompt = rng.between(1, max(1, units_max // 2))
        steps = min(rng.between(1, max(1, units_max - prompt)), 24)
        if rng.chance(0.02):
            prompt += units_max  # more than all memory
        request = toy.request(
            [rng.between(0, 99) for _ in range(prompt)],
            steps,
            stop_modulus=rng.one_of([0, 0, 7]),
            tenant=rng.one_of(["", "a", "b"]),
            weight=rng.one_of([1.0, 2.0]),
            deadline_seconds=rng.one_of([None] * 6 + [0.05]),
        )
        clients.append(
            bench.Client(
                request=request,
                arrives_at=now,
                read_every_seconds=rng.one_of([0.0, 0.004, 0.06, None] if slow else [0.0, None]),
                abort_in=rng.one_of(_ABORTABLE) if rng.chance(0.25) else None,
                abort_at=now + rng.within(0, 0.1) if rng.chance(0.1) else None,
            )
        )
    return tuple(clients)


def _lengthen(
    rng: draws.Draws,
    clients: tuple[bench.Client, ...],
    pool_pages: int,
    slots: int,
    page_units: int,
) -> tuple[bench.Client, ...]:
    """Up to three of the clients ask for more than the pool holds, at most for what all holds."""
    chosen = set(rng.some(0, len(clients) - 1, rng.between(1, 3)))
    lengthened = []
    for number, client in enumerate(clients):
        if number in chosen:
            pages = pool_pages + rng.between(1, slots)
            units = (pages - 1) * page_units + rng.between(1, page_units)
            old = client.request
            steps = min(old.steps_max, units)
            request = toy.request(
                [rng.between(0, 99) for _ in range(units - steps + 1)],
                steps,
                stop_modulus=rng.one_of([0, 20]),
                tenant=old.tenant,
                weight=old.weight,
                deadline_seconds=old.deadline_seconds,
            )
            client = dataclasses.replace(client, request=request)
        lengthened.append(client)
    return tuple(lengthened)
