"""Running a program so that nothing of it is left behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


def run_to_the_end(command: list[str]) -> int:
    """Run a command; whatever ends it or this process before its time ends all processes it has started.

    Even SIGKILL does, except on Windows, by a small process that waits for the end of this one. SIGTERM and SIGHUP
    interrupt as Ctrl-C does, unless they are ignored (nohup) or have a handler already.

    Returns:
        The exit status; below 0 the number of the signal that ended it.

    Raises:
        KeyboardInterrupt: after an interruption, when all is ended.
    """
    process = None
    with _Interruptions() as interruptions:
        try:
            with _guard() as watch:
                # a group of its own: nnU-Net's workers outlive a killed trainer otherwise
                process = subprocess.Popen(command, start_new_session=True)
                watch(process.pid)
                interruptions.let_through()
                status = process.wait()
        except BaseException:
            interruptions.hold_back()
            if process is not None:
                _end_group(process)
            raise
    if status:
        _end_group(process)
    return status


#: reads a group's number, and then nothing until the process at the other end is gone, or says that all is well
_GUARD = """
import os, signal, sys, time
group, _, all_is_well = sys.stdin.read().partition("\\n")
if group and not all_is_well:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(int(group), number)
        except OSError:
            break
        time.sleep(10)
"""


@contextlib.contextmanager
def _guard() -> Iterator[Callable[[int], None]]:
    """Inside, a group of processes ends with this process, even if that is killed, from when its number is given on.

    The guard is there before the group: one started after it would come too late for what is killed meanwhile.
    """
    if not hasattr(os, "killpg"):  # Windows
        yield lambda group: None
        return
    command, nowhere = [sys.executable, "-c", _GUARD], subprocess.DEVNULL
    # a session of its own: Ctrl-C is this process's business
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True)

    def watch(group: int) -> None:
        with contextlib.suppress(OSError):
            guard.stdin.write(f"{group}\n".encode())
            guard.stdin.flush()

    try:
        yield watch
    finally:
        with contextlib.suppress(OSError):
            guard.communicate(b"\nall is well")


class _Interruptions:
    """Makes a KeyboardInterrupt of Ctrl-C, SIGTERM and SIGHUP, but not while a process is started or ended.

    An exception in the midst of ``Popen`` would lose a program that is running already.
    """

    def __init__(self) -> None:
        self._held_back, self._came = True, False
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Interruptions:
        if threading.current_thread() is threading.main_thread():  # only there Python lets handlers be set
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # no SIGHUP on Windows
                if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if not self._held_back:
            raise KeyboardInterrupt

    def hold_back(self) -> None:
        self._held_back = True

    def let_through(self) -> None:
        self._held_back = False
        if self._came:
            raise KeyboardInterrupt


def _end_group(process: subprocess.Popen) -> None:
    if not hasattr(os, "killpg"):  # Windows
        process.kill()
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left (the latter is macOS's answer)
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
