"""Random scenarios: small enough to run in milliseconds, hostile enough to meet every case.

Knows: the ranges. The same seed draws the same scenario. Does not know: how it runs.
"""

from __future__ import annotations

import dataclasses
import random

from aqua_jax.control import types
from aqua_jax.control.policies import base
from aqua_jax.simulation import toy
from tests.simulation import bench, homes, leased

# The states that pass quickly come up more often, or hardly anybody would be aborted in them.
_ABORTABLE = (
    types.State.WAITING,
    types.State.RUNNING,
    types.State.PAUSED,
    *[types.State.LEAVING, types.State.AWAY, types.State.ARRIVING] * 3,
)

_APART = ("vtc", "eevdf", "mlfq", "srpt", "buffered")


def draw(seed: int) -> bench.Scenario:
    """A random scenario: now roomy, now cramped; now calm, now hostile."""
    rng = random.Random(seed)
    # Drawn apart: the scenarios of a seed are the same but for their long sessions.
    long_rng = random.Random(f"{seed}/long")
    policy_rng = random.Random(f"{seed}/policy")
    page_units = rng.choice([1, 2, 4])
    pool_pages = rng.randint(8, 24)
    cramped, roomy = rng.randint(1, 10), rng.randint(20, 60)
    clients = _draw_clients(rng, (pool_pages - 1) * page_units)
    last = clients[-1].arrives_at
    policy = _draw_policy(rng, policy_rng)
    tier_pages = rng.choice([(), (cramped,), (cramped, roomy), (roomy, roomy), (1, 2)])
    loans = homes.draw(seed, last + 0.1)
    lease = None if loans else leased.draw(seed, last + 0.2)
    if loans or lease:  # little other memory, so that it matters
        tier_pages = tier_pages[: long_rng.randint(0, 2)]
    if lease and long_rng.random() < 0.7:  # what is borrowed is to be used
        policy = dataclasses.replace(policy, name="cfs", quantum_tokens=long_rng.randint(1, 4))
        tier_pages = tier_pages[:0]
    attends_away = bool(tier_pages) and long_rng.random() < 0.4
    if attends_away:
        clients = _lengthen(long_rng, clients, pool_pages - 1, sum(tier_pages), page_units)
    return bench.Scenario(
        policy=policy,
        page_units=page_units,
        pool_pages=pool_pages,
        tier_pages=tier_pages,
        attends_away=attends_away,
        lanes=rng.randint(1, 6),
        chunk_units=rng.choice([2, 4, 8]),
        steps_max=rng.randint(1, 5),
        controller={
            "steps_contended": rng.randint(1, 4),
            "chunks_max": rng.randint(1, 3),
            "looks_max": rng.choice([1, 2, 8]),
            "passes_max": rng.choice([1, 4]),
            "early_pages": rng.choice([0, 2, 8]),
            "sessions_max": rng.choice([3] + [1000] * 7),
        },
        stream_tokens_max=rng.choice([1, 3, 65_536]),
        # A copy of a borrower must not outlast what the ledger waits longer than it does.
        page_seconds=min(rng.choice([1e-5, 1e-3, 5e-3]), 1e-4 if lease else 1.0),
        faults=_draw_faults(rng),
        fail_at=_draw_failures(rng),
        clients=clients,
        loans=loans,
        lease=lease,
        drain_at=rng.uniform(0, 2 * last) if rng.random() < 0.1 else None,
        drain_seconds=rng.choice([0.0, 0.02, 10.0]),
    )


def _draw_policy(rng: random.Random, policy_rng: random.Random) -> base.PolicySettings:
    """Of one of three seeds the name is drawn apart, so that the others stay as they are."""
    settings = base.PolicySettings(
        name=rng.choice(["fcfs", "fcfs_reserve", "cfs", "cfs", "cfs", "cfs_recompute"]),
        quantum_tokens=rng.choice([1, 2, 8, 64]),
        prefill_quantum_tokens=rng.choice([1, 8, 512]),
        tenant_weights=rng.choice([{}, {"a": 3.0}]),
    )
    if policy_rng.random() >= 1 / 3:
        return settings
    return dataclasses.replace(
        settings,
        name=_APART[policy_rng.randrange(len(_APART))],
        sessions_fair=(1, 8, 256)[policy_rng.randrange(3)],
        reading_tokens_per_second=(10.0, 300.0)[policy_rng.randrange(2)],
    )


def _draw_faults(rng: random.Random) -> toy.ToyFaults:
    return toy.ToyFaults(
        seed=rng.randint(0, 1 << 30),
        fail=rng.choice([0, 0, 0.1, 0.5]),
        delay=rng.choice([0, 0.5]),
        refuse=rng.choice([0, 0, 0.1]),
        delay_factor=10.0,
    )


def _draw_failures(rng: random.Random) -> frozenset[int]:
    """Dispatches that fail: mostly none, sometimes two, now and then enough to give all up."""
    chance = rng.random()
    if chance < 0.05:
        first = rng.randint(1, 40)
        return frozenset(range(first, first + 12))
    return frozenset(rng.sample(range(1, 300), 2)) if chance < 0.3 else frozenset()


def _draw_clients(rng: random.Random, units_max: int) -> tuple[bench.Client, ...]:
    gap_seconds = rng.choice([1e-4, 1e-3, 1e-2])
    slow = rng.random() < 0.5  # some of the clients read late
    now = 0.0
    clients = []
    for _ in range(rng.randint(3, 18)):
        now += rng.expovariate(1 / gap_seconds)
        prompt = rng.randint(1, max(1, units_max // 2))
        steps = min(rng.randint(1, max(1, units_max - prompt)), 24)
        if rng.random() < 0.02:
            prompt += units_max  # more than all memory
        request = toy.request(
            [rng.randint(0, 99) for _ in range(prompt)],
            steps,
            stop_modulus=rng.choice([0, 0, 7]),
            tenant=rng.choice(["", "a", "b"]),
            weight=rng.choice([1.0, 2.0]),
            deadline_seconds=rng.choice([None] * 6 + [0.05]),
        )
        clients.append(
            bench.Client(
                request=request,
                arrives_at=now,
                read_every_seconds=rng.choice([0.0, 0.004, 0.06, None] if slow else [0.0, None]),
                abort_in=rng.choice(_ABORTABLE) if rng.random() < 0.25 else None,
                abort_at=now + rng.uniform(0, 0.1) if rng.random() < 0.1 else None,
            )
        )
    return tuple(clients)


def _lengthen(
    rng: random.Random,
    clients: tuple[bench.Client, ...],
    pool_pages: int,
    slots: int,
    page_units: int,
) -> tuple[bench.Client, ...]:
    """Up to three of the clients ask for more than the pool holds, at most for what all holds."""
    chosen = set(rng.sample(range(len(clients)), rng.randint(1, 3)))
    lengthened = []
    for number, client in enumerate(clients):
        if number in chosen:
            pages = pool_pages + rng.randint(1, slots)
            units = (pages - 1) * page_units + rng.randint(1, page_units)
            old = client.request
            steps = min(old.steps_max, units)
            request = toy.request(
                [rng.randint(0, 99) for _ in range(units - steps + 1)],
                steps,
                stop_modulus=rng.choice([0, 0, 50]),
                tenant=old.tenant,
                weight=old.weight,
                deadline_seconds=old.deadline_seconds,
            )
            client = dataclasses.replace(client, request=request)
        lengthened.append(client)
    return tuple(lengthened)
