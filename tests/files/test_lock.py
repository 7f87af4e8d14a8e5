"""One process works in a folder; its end, of whatever kind, sets the folder free."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_shapekd.files import lock
from nnunet_shapekd.files.lock import FolderInUseError, hold

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX locks")
HOLDER = """
import os, sys, time
from nnunet_shapekd.files.lock import hold
assert hold(sys.argv[1], "training") is None
if os.fork() == 0:  # a worker, which outlives it
    time.sleep(30)
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder, with a worker that it has forked."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    process.stdout.readline()
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_second_process_is_refused_and_told_who_the_first_is(holder, tmp_path):
    with pytest.raises(FolderInUseError, match=rf"{tmp_path} .*training by process {holder.pid} on \S+, since 20"):
        hold(tmp_path, "training")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_process_sets_the_folder_free_while_its_workers_still_live(holder, tmp_path, number):
    os.kill(holder.pid, number)
    holder.wait()
    assert hold(tmp_path, "training") is None
    with pytest.raises(ProcessLookupError):
        os.kill(holder.pid, 0)
    os.killpg(holder.pid, 0)  # the worker is there


def test_a_process_may_hold_what_it_holds_and_a_folder_that_took_its_place(tmp_path):
    folder = tmp_path / "fold_0"
    folder.mkdir()
    assert hold(folder, "training") is None
    assert hold(folder, "training again") is None
    folder.rename(tmp_path / "away")
    folder.mkdir()
    assert hold(folder, "training") is None and (folder / lock.NAME).is_file()


def test_a_file_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch):
    import fcntl

    def fail(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "lockf", fail)
    assert "Operation not supported" in hold(tmp_path, "training")
    assert str(Path(tmp_path)) in hold(tmp_path, "training")
