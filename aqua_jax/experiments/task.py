"""Something to be done once, with a bar that says how far it is: a conversion, a training.

Knows: what a task's settings must be able to do. Does not know: what is done, flags. A config that
holds a task returns `overrides.task_config_dict(settings)`; it takes no --workdir, for it writes
no report, and says in its settings where its results go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

# (done, of how many, in a few words how it goes). Raises KeyboardInterrupt once the user has asked
# for an end, so that nothing is left half-written.
Progress = Callable[[float, float, str], None]


class Task(Protocol):
    """A frozen dataclass of settings that can do what they describe."""

    @property
    def title(self) -> str:
        """What is done, said before it begins."""
        ...

    def run(self, progress: Progress) -> Iterator[str]:
        """Does it; yields lines to say when there is something to say.

        Results appear whole or not at all. Raises ConfigError.
        """
        ...
