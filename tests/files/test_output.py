import os
import platform
import re
import signal
import subprocess
import sys
import time

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
