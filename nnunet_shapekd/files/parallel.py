"""Work on many cases, with a progress bar, in several processes where that pays."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from tqdm import tqdm


def default_processes() -> int:
    """The cores this process may use, eight at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def map_in_processes(
    function: Callable, items: Sequence, processes: int | None, description: str, items_per_worker: int
) -> list:
    """``[function(item) for item in items]`` with a progress bar, in spawned processes where that pays.

    With more than one process a script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        processes: at most; by default :func:`default_processes`.
        items_per_worker: how many items are worth the second or so that it takes to start a process.

    Raises:
        ValueError: if a worker died.
    """
    workers = min(default_processes() if processes is None else processes, len(items) // items_per_worker)
    if workers <= 1:
        return [function(item) for item in tqdm(items, desc=description, file=sys.stderr)]
    # Spawn, because forking a process in which torch runs threads can deadlock.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        return collect(executor, function, items, description)
    except BrokenProcessPool:
        raise ValueError(
            f"a worker process died while {description.lower()} (out of memory?), nothing was written; "
            "try again with --processes 1"
        ) from None


def collect(executor: Executor, function: Callable, items: Iterable, description: str) -> list:
    """As :func:`map_in_processes`, by a given executor, which is shut down."""
    try:
        futures: list[Future] = [executor.submit(function, item) for item in items]
        for future in tqdm(as_completed(futures), total=len(futures), desc=description, file=sys.stderr):
            future.result()
        return [future.result() for future in futures]
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is the parent's business, and a worker whose parent was killed ends, which the executor leaves open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
