"""Another engine in a process and an environment of its own, asked to run the same requests.

Knows: processes, the lines of JSON that runner scripts read and write (`configs/peers/`). Does
not know: any engine. While one runs the others are stopped (SIGSTOP), so that threads that spin
take no time from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aqua_jax.control import errors

_ERROR_CHARS = 400


class Wanted(NamedTuple):
    """A request: its prompt's ids and how many tokens are made after it, no fewer."""

    prompt: Sequence[int]
    tokens: int


class Run(NamedTuple):
    """What one run of all requests took, and the ids that each got."""

    seconds: float
    tokens: list[list[int]]

    @property
    def rate(self) -> float:
        """Tokens made in a second."""
        return sum(map(len, self.tokens)) / self.seconds


class PeerError(errors.AquaError):
    """A peer did not start, died, or did not answer in time. The text ends with what it said."""


class Peer:
    """A runner script under its environment's python, stopped but for `start` and `run`.

    job: what the script is told first: model, dtype, threads, kv_tokens and the requests.
    Raises PeerError. `close` ends the process, whatever it does.
    """

    def __init__(
        self, python: str, script: pathlib.Path, job: Mapping[str, Any], *, wait_seconds: float
    ) -> None:
        self._wait_seconds = wait_seconds
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # kept as long as the process
        # None of ours must leak into its environment.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to hear
        )
        try:
            self.versions: dict[str, str] = self._ask(job)["versions"]
        except PeerError:
            self.close()
            raise

    def run(self) -> Run:
        """All requests once."""
        answer = self._ask({})
        return Run(answer["seconds"], answer["tokens"])

    def close(self) -> None:
        """Kills it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._line())
        except (OSError, ValueError) as error:
            raise PeerError(f"{error}: {self._last_words()}") from None
        finally:
            self._signal(signal.SIGSTOP)

    def _line(self) -> bytes:
        """Its answer. Raises PeerError when none comes."""
        pipe = self._process.stdout
        assert pipe is not None
        deadline, line = time.monotonic() + self._wait_seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise PeerError(
                        f"no answer within {self._wait_seconds:g} s: {self._last_words()}"
                    )
                part = os.read(pipe.fileno(), 1 << 20)
                if not part:
                    raise PeerError(f"it ended: {self._last_words()}")
                line += part
        return line

    def _last_words(self) -> str:
        self._said.seek(0)
        return (
            self._said.read().decode(errors="replace").strip()[-_ERROR_CHARS:] or "it said nothing"
        )

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
