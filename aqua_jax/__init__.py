"""Time slices and paged state for generative inference in JAX.

The control plane's public names: what a serving stack needs to run its own
decode loop under the controller. Importing it parses no flags, reads no
environment, opens no library and touches no device; jax is not imported.
The data plane is imported by module: `aqua_jax.memory.paged`,
`aqua_jax.memory.movers.xla`, `aqua_jax.loops.text`.
"""

from __future__ import annotations

from aqua_jax.control.clock import Clock, MonotonicClock, VirtualClock
from aqua_jax.control.controller import Controller, ControllerSettings
from aqua_jax.control.errors import (
    AquaError,
    ConfigError,
    InternalError,
    MoveError,
    PoolLostError,
    QueueFullError,
    RequestError,
    TraceError,
)
from aqua_jax.control.pages import PagePool
from aqua_jax.control.policies.base import PolicySettings, Weights
from aqua_jax.control.policies.registry import make as make_policy
from aqua_jax.control.residency import Residency
from aqua_jax.control.spare import Tier
from aqua_jax.control.tickets import Ticket
from aqua_jax.control.types import (
    Batch,
    Completion,
    LanePlan,
    Move,
    Outcome,
    Place,
    Request,
    Session,
)
from aqua_jax.engine.assemble import make_controller, make_engine
from aqua_jax.engine.engine import Engine, EngineSettings
from aqua_jax.engine.observer import Observer
from aqua_jax.engine.protocols import Mover, Runner
from aqua_jax.engine.streams import Stream

__version__ = "0.1.0"

__all__ = [
    "AquaError",
    "Batch",
    "Clock",
    "Completion",
    "ConfigError",
    "Controller",
    "ControllerSettings",
    "Engine",
    "EngineSettings",
    "InternalError",
    "LanePlan",
    "MonotonicClock",
    "Move",
    "MoveError",
    "Mover",
    "Observer",
    "Outcome",
    "PagePool",
    "Place",
    "PolicySettings",
    "PoolLostError",
    "QueueFullError",
    "Request",
    "RequestError",
    "Residency",
    "Runner",
    "Session",
    "Stream",
    "Ticket",
    "Tier",
    "TraceError",
    "VirtualClock",
    "Weights",
    "make_controller",
    "make_engine",
    "make_policy",
]
