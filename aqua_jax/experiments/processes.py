"""Work spread over processes that end with this one, on Ctrl-C too.

Knows: processes, signals. Does not know: what is run. Items do not share
anything, so what comes of them does not depend on how many processes there are.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from aqua_jax.control import errors

_LOOK_SECONDS = 0.2  # from one look to the next whether to stop

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Stopped = Callable[[], bool]
Work = Callable[[Item, Stopped], Outcome]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def run_all(
    work: Work[Item, Outcome], items: Sequence[Item], *, workers: int, stopped: Stopped
) -> Iterator[Outcome]:
    """`work(item, stopped)` of each item in `workers` processes, as they end.

    work: a function of a module; it is to return soon once its `stopped()` is true. One worker:
    in this process, in order. Once `stopped()` no more is begun, and what had begun and has not
    ended is waited for and dropped. Raises what `work` raises, and InternalError when a process
    dies.
    """
    if workers == 1:
        for item in items:
            if stopped():
                return
            yield work(item, stopped)
        return
    # Not forked from this process, whose threads would be lost; from a server that has imported
    # what they need, once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__, *_modules_of_main()])
    stop = context.Event()
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(stop,)
    ) as pool:
        left = {pool.submit(_work, work, item) for item in items}
        try:
            while left:
                ended, left = concurrent.futures.wait(
                    left, _LOOK_SECONDS, concurrent.futures.FIRST_COMPLETED
                )
                yield from [future.result() for future in ended]
                if stopped():
                    return
        except concurrent.futures.BrokenExecutor as error:
            raise errors.InternalError(
                f"a process died ({error}): for want of memory? Use fewer workers"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_stop: list[multiprocessing.synchronize.Event] = []  # of a worker: the one that it is given


def _start(stop: multiprocessing.synchronize.Event) -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop.append(stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Work[Item, Outcome], item: Item) -> Outcome:
    return work(item, _stop[0].is_set)


def _modules_of_main() -> list[str]:
    """What the module that was started imports: each process runs it once more, without its end."""
    found = vars(sys.modules["__main__"]).values()
    return sorted({one.__name__ for one in found if isinstance(one, types.ModuleType)})
