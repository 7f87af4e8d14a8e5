"""Run nnU-Net's console commands one after the other in one process, which imports torch and nnU-Net only once.

``Driver`` is the client; run as a program, this file is the server that it talks to over its standard streams.
"""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """What came of a command."""

    command: tuple[str, ...]
    exit_code: int
    output: str

    def tail(self, characters: int = 3000) -> str:
        return f"$ {' '.join(self.command)}   (exit code {self.exit_code})\n{self.output[-characters:]}"


class Driver:
    """A process that runs commands, for one thread at a time; a context manager that ends it.

    Args:
        folder: for the logs and as working directory.
        environment: added to this process's own, for all commands.
        timeout_s: a command that takes longer is ended together with the process; the next command starts a new one.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], timeout_s: float = 600) -> None:
        self.folder = folder
        self.environment = {**os.environ, **environment}
        self.timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._n_commands = 0
        self._closed = False

    def run(self, *command: str, **environment: str) -> Result:
        """Run a console command of an installed package, with these variables on top of the driver's own.

        ``command[0]`` can also be "module:function", the function reading ``sys.argv``.
        """
        if self._closed:
            raise RuntimeError("The driver is closed.")
        if self._process is None or self._process.poll() is not None:
            self._start()
        self._n_commands += 1
        log = self.folder / f"{self._n_commands:03d}_{command[0].split(':')[-1]}.log"
        request = {"command": command, "environment": environment, "log": str(log)}
        timer = threading.Timer(self.timeout_s, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        finally:
            timer.cancel()
        if not reply:  # the process is gone
            self._process.wait()
        exit_code = int(reply) if reply else self._process.returncode or 1
        return Result(command, exit_code, log.read_text(errors="replace") if log.exists() else "")

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "driver.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def close(self) -> None:
        """End the process, whatever it is doing; its workers end with it. Any thread may call this."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_processes_cheap() -> None:
    """Spare nnU-Net's many short-lived pools their start-up, and the machine nnU-Net's appetite for threads.

    nnU-Net asks for "spawn" pools of one worker, each of which would import torch for seconds. A fork server imports it
    once; its workers get and give everything pickled, just as spawned ones. And with ``-device cpu`` nnU-Net lets torch
    use as many threads as there are cores, which two drivers side by side would fight over.
    """
    get_context = multiprocessing.get_context
    if "forkserver" in multiprocessing.get_all_start_methods():
        server = get_context("forkserver")
        server.set_forkserver_preload(["nnunetv2.training.nnUNetTrainer.nnUNetTrainer"])
        multiprocessing.get_context = lambda method=None: server if method == "spawn" else get_context(method)
    multiprocessing.cpu_count = lambda: 1


@functools.cache
def _entry_point(name: str):
    if ":" in name:
        return importlib.metadata.EntryPoint(name, name, "console_scripts").load()
    (found,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    return found.load()


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Call the command as its script would; returns the exit code."""
    before = dict(os.environ)
    os.environ.update(environment)
    sys.argv = command
    try:
        return _entry_point(command[0])() or 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        os.environ.clear()
        os.environ.update(before)
        gc.collect()


def serve() -> None:
    """Read requests from standard input until it ends; answer each with its exit code on standard output."""
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _make_processes_cheap()
    for line in requests:
        request = json.loads(line)
        with open(request["log"], "wb") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        exit_code = _run(request["command"], request["environment"])
        sys.stdout.flush()
        sys.stderr.flush()
        print(exit_code, file=replies, flush=True)


if __name__ == "__main__":
    serve()
