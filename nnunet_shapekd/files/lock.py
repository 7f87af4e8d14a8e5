"""A lock on a folder that one process holds until it ends, however it ends."""

import contextlib
import errno
import json
import os
import platform
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

#: lies in a folder that is, or was, being worked on; says who holds or held it
NAME = ".shapekd-lock.json"
_held: dict[str, BinaryIO] = {}


class FolderInUseError(ValueError):
    """Another process works in the folder."""


def hold(folder: str | os.PathLike[str], work: str) -> str | None:
    """Lock a folder for the rest of this process.

    The lock is a POSIX record lock: the kernel drops it with the process, processes that were forked from it do not
    keep it alive (as they would with flock), and a network file system passes it on to other machines.

    Args:
        folder: that exists.
        work: what is done in it, for the message to others.

    Returns:
        ``None``; or, where the file system or the operating system has no such locks, why nothing is locked.

    Raises:
        FolderInUseError: if another process holds it, naming it, its host and since when.
    """
    path = Path(folder, NAME).absolute()
    mine = _held.get(str(path))
    if mine and path.exists() and os.path.samestat(os.fstat(mine.fileno()), path.stat()):
        return None  # and closing a second handle would drop it
    try:
        import fcntl
    except ImportError:
        return "this operating system has no locks that end with their process"
    file = open(path, "a+b")  # noqa: SIM115 - it stays open as long as this process
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with file:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise FolderInUseError(f"{Path(folder).absolute()} is in use: {_who(file.read())}") from None
        return f"the file system of {path.parent} has no locks ({error.strerror})"
    _held[str(path)] = file
    owner = {"work": work, "host": platform.node(), "pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    file.truncate(0)
    file.write(json.dumps(owner).encode())
    file.flush()
    return None


@contextlib.contextmanager
def alone_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Waits until no other process is at this in a folder: for the moment in which a result gets its name.

    Where file system or operating system have no locks on folders, it does not wait.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _who(content: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        owner = json.loads(content)
        return f"{owner['work']} by process {owner['pid']} on {owner['host']}, since {owner['since']}"
    return "another process has just begun to work there"
