"""Peers' processes: asked in lines of JSON, stopped between, and what they say when they fail."""

from __future__ import annotations

import pathlib
import sys
import time

import pytest

from aqua_jax.experiments import peers

ECHO = """
import json, sys
job = json.loads(sys.stdin.readline())
print(json.dumps({"versions": {"echo": job["model"]}}), flush=True)
for line in sys.stdin:
    tokens = [one["prompt"] for one in job["requests"]]
    print(json.dumps({"seconds": 0.5, "tokens": tokens}), flush=True)
"""
JOB = {
    "model": "m",
    "requests": [peers.Wanted([1, 2], 2)._asdict(), peers.Wanted([3], 1)._asdict()],
}


def start(tmp_path: pathlib.Path, text: str, wait_seconds: float = 30.0) -> peers.Peer:
    script = tmp_path / "peer.py"
    script.write_text(text)
    return peers.Peer(sys.executable, script, JOB, wait_seconds=wait_seconds)


def state(peer: peers.Peer) -> str:
    """As the system has it: T is stopped."""
    return pathlib.Path(f"/proc/{peer._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_peer_answers_every_run_and_is_stopped_between(tmp_path):
    peer = start(tmp_path, ECHO)
    try:
        assert peer.versions == {"echo": "m"}
        for _ in range(2):
            made = peer.run()
            assert (made.tokens, made.rate) == ([[1, 2], [3]], 6.0)
            deadline = time.monotonic() + 10
            while state(peer) != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state(peer) == "T"
    finally:
        peer.close()
    assert peer._process.returncode is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit('no such model')", "it ended: no such model"),
        ("print('nonsense')", "nonsense|Expecting value"),
        ("import time; time.sleep(60)", "no answer within 0.5 s: it said nothing"),
    ],
)
def test_a_peer_that_fails_is_quoted(tmp_path, text, message):
    with pytest.raises(peers.PeerError, match=message):
        start(tmp_path, text, wait_seconds=0.5 if "sleep" in text else 30.0)
