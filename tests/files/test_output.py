import contextlib
import errno
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunet_shapekd.files.output import MANIFEST, check_free, new_file, new_folder, scratch_folder


def fill(target, text, kind=None):
    with new_folder(target, kind) as folder:
        (folder / "result.txt").write_text(text)


def test_a_new_folder_appears_only_when_it_is_filled(tmp_path):
    with new_folder(tmp_path / "a" / "out") as folder:
        assert not (tmp_path / "a" / "out").exists()
        (folder / "result.txt").write_text("whole")
    assert (tmp_path / "a" / "out" / "result.txt").read_text() == "whole"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_an_error_leaves_nothing_and_keeps_the_earlier_result(tmp_path):
    fill(tmp_path / "out", "earlier", "evaluation")
    with pytest.raises(KeyError), new_folder(tmp_path / "out", "evaluation") as folder:
        (folder / "result.txt").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "result.txt").read_text() == "earlier"


def test_an_earlier_result_is_replaced_wholly(tmp_path):
    with new_folder(tmp_path / "out", "evaluation") as folder:
        (folder / "old").mkdir()
        (folder / "old" / "old.png").touch()
    fill(tmp_path / "out", "later", "evaluation")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "result.txt"]
    assert (tmp_path / "out" / "result.txt").read_text() == "later"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", [None, "evaluation"])
def test_a_folder_with_other_things_is_left_as_it_is(tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "out"))):
        fill(tmp_path / "out", "result", kind)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="no folder"):
        fill(tmp_path / "out", "result", "evaluation")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "result")
    assert (tmp_path / "out" / "result.txt").is_file()


def test_what_was_put_into_an_earlier_result_is_not_lost(tmp_path):
    fill(tmp_path / "out", "earlier", "evaluation")
    (tmp_path / "out" / "notes").mkdir()
    (tmp_path / "out" / "notes" / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match="notes/thesis.tex"):
        fill(tmp_path / "out", "later", "evaluation")
    assert (tmp_path / "out" / "result.txt").read_text() == "earlier"


def test_a_result_of_another_kind_is_not_replaced(tmp_path):
    fill(tmp_path / "out", "earlier", "comparison")
    with pytest.raises(ValueError, match="out.*evaluation"):
        fill(tmp_path / "out", "later", "evaluation")


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    fill(tmp_path / "out", "earlier", "evaluation")
    monkeypatch.chdir(tmp_path / "out")
    for target in (".", "..", tmp_path / "out"):
        with pytest.raises(ValueError, match="current folder"):
            check_free(target, "evaluation")


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fill(tmp_path / "link", "earlier", "evaluation")
    fill(tmp_path / "link", "later", "evaluation")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "result.txt").read_text() == "later"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_new_parents_of_a_failed_result_vanish(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "new" / "sub" / "out"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def process_that_is_no_more() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("name", ["out", "out[1]"])
def test_a_killed_runs_leftovers_are_removed_and_the_earlier_result_comes_back(tmp_path, name):
    pid = process_that_is_no_more()
    fill(tmp_path / name, "earlier", "evaluation")
    (tmp_path / name).rename(tmp_path / f".shapekd-before-{name}-{platform.node()}-{pid}")
    (tmp_path / f".shapekd-partial-{name}-{platform.node()}-{pid}").mkdir()
    with pytest.raises(KeyError), new_folder(tmp_path / name, "evaluation"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "result.txt").read_text() == "earlier"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_terminated_run_leaves_nothing(tmp_path):
    code = (
        "import sys, time\nfrom nnunet_shapekd.files.output import new_folder\n"
        "with new_folder(sys.argv[1]) as folder:\n    (folder / 'half').touch()\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".shapekd-partial-*/half")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


# --- folders that cannot be renamed ------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A folder that is renamed as little as one that is mounted."""
    folder, rename = tmp_path / "out", Path.rename
    folder.mkdir()

    def refuse(path, target):
        if path == folder:
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    return folder


def state(folder):
    """What there is to see, its text, and whether there is more."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name != MANIFEST], (folder / "result.txt").read_text()


def test_a_mounted_folder_is_filled_and_filled_again(mounted):
    fill(mounted, "first", "evaluation")
    assert state(mounted) == (["result.txt"], "first")
    (mounted / "lost+found").mkdir()
    fill(mounted, "second", "evaluation")
    assert state(mounted) == (["lost+found", "result.txt"], "second")
    assert list(mounted.parent.iterdir()) == [mounted]


def test_an_error_leaves_a_mounted_folder_as_it_was(mounted):
    for earlier in ([], ["result.txt"]):
        with pytest.raises(KeyError), new_folder(mounted, "evaluation") as folder:
            (folder / "half.txt").touch()
            raise KeyError
        assert [path.name for path in mounted.iterdir() if path.name != MANIFEST] == earlier
        fill(mounted, "earlier", "evaluation")


def test_a_mounted_folder_with_other_things_is_left_as_it_is(mounted):
    fill(mounted, "earlier", "evaluation")
    (mounted / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        fill(mounted, "later", "evaluation")
    assert state(mounted) == (["result.txt", "thesis.tex"], "earlier")


def test_a_mounted_folder_that_another_run_fills_is_refused(mounted):
    (mounted / f".shapekd-partial-{platform.node()}-{os.getppid()}").mkdir()
    with pytest.raises(ValueError, match="is being filled by another run"):
        check_free(mounted, "evaluation")


@pytest.mark.skipif(os.name != "posix", reason="fork")
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("steps", range(8))
def test_a_run_killed_while_it_fills_a_mounted_folder_leaves_the_one_or_the_other(mounted, steps, earlier):
    if earlier:
        fill(mounted, "earlier", "evaluation")
    if (child := os.fork()) == 0:
        left, rename = [steps], Path.rename

        def killed(path, target):
            if path != mounted and left[0] == 0:
                os._exit(9)
            left[0] -= path != mounted
            return rename(path, target)

        Path.rename = killed
        with contextlib.suppress(BaseException):
            fill(mounted, "later", "evaluation")
        os._exit(0)
    os.waitpid(child, 0)
    check_free(mounted, "evaluation")
    seen = [path.name for path in mounted.iterdir()]
    assert not any(name.startswith(".shapekd-") and name != MANIFEST for name in seen)
    assert state(mounted) in ((["result.txt"], "earlier"), (["result.txt"], "later")) if seen else not earlier
    fill(mounted, "last", "evaluation")
    assert state(mounted) == (["result.txt"], "last")


def in_a_namespace(script, folder):
    """Runs a shell script in which ``mount`` changes nothing outside."""
    command = ["unshare", "--mount", "sh", "-ec", script, sys.executable, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*command[:4], "mount -t tmpfs none /mnt"]).returncode:
        pytest.skip("mounting is not permitted here")
    return subprocess.run(command, capture_output=True, text=True)


WRITE = (
    "import sys\nfrom nnunet_shapekd.files.output import new_folder\n"
    "with new_folder(sys.argv[1], 'evaluation') as folder:\n"
    "    (folder / 'a').write_bytes(int(sys.argv[2]) * b'a')\n"
)


def test_what_is_really_mounted_is_filled_twice(tmp_path):
    (tmp_path / "out").mkdir()
    write = f'"$0" -c "{WRITE}" "$1/out"'
    script = f'mount -t tmpfs none "$1/out"\n{write} 5\n{write} 7\ncat "$1/out/a"; ls "$1" "$1/out"'
    done = in_a_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(f"{tmp_path}", "").split() == ["aaaaaaa:", "out", "/out:", "a"]


@pytest.mark.parametrize(
    ("mount", "size", "words"),
    [
        ("-o ro", 5, "is no folder that may be written to"),
        ("-o size=512k", 5, "is full"),
        ("-o size=2m", 5_000_000, "No space left on device: '{}/out/new'"),
    ],
)
def test_a_disk_that_takes_nothing_is_named_before_the_work_or_after(tmp_path, mount, size, words):
    (tmp_path / "out").mkdir()
    script = f'mount -t tmpfs {mount} none "$1/out"\n"$0" -c "{WRITE}" "$1/out/new" {size} || ls -A "$1/out"'
    done = in_a_namespace(script, tmp_path)
    assert words.format(tmp_path) in done.stderr and not done.stdout


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("earlier")
    with pytest.raises(type(error)), new_file(path) as unfinished:
        unfinished.write_text("half")
        raise error
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]
    with new_file(path) as unfinished:
        unfinished.write_text("later")
        assert path.read_text() == "earlier"
    assert path.read_text() == "later" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: order.append("fsync") or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or replace(*paths))
    with new_file(tmp_path / "a") as unfinished:
        unfinished.touch()
    assert order == ["fsync", "replace"]


def test_only_what_runs_that_are_no_more_left_of_the_same_file_is_removed(tmp_path):
    dead, alive = process_that_is_no_more(), os.getppid()
    leftovers = {pid: tmp_path / f".a.pth.{platform.node()}-{pid}.partial" for pid in (dead, alive)}
    others = tmp_path / f".a.pth2.{platform.node()}-{dead}.partial"
    for path in (*leftovers.values(), others):
        path.touch()
    with new_file(tmp_path / "a.pth") as unfinished:
        unfinished.touch()
    assert sorted(tmp_path.iterdir()) == sorted([leftovers[alive], others, tmp_path / "a.pth"])


def test_a_scratch_folder_lives_as_long_as_it_is_used_and_clears_what_killed_runs_left(tmp_path):
    leftover = tmp_path / f".images-{platform.node()}-{process_that_is_no_more()}"
    (leftover / "inner").mkdir(parents=True)
    with pytest.raises(KeyError), scratch_folder(tmp_path / ".images") as folder:
        assert list(tmp_path.iterdir()) == [folder]
        raise KeyError
    assert not list(tmp_path.iterdir())
