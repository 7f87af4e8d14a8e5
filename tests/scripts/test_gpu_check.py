"""scripts/gpu_check.py: every part at toy sizes on the CPU, and a report that survives failures and has no secrets."""

import getpass
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def modules():
    """``gpu_check``, ``gpu_check_parts`` and ``gpu_check_page``, which import each other from where they lie."""
    folder = str(ROOT / "scripts")
    sys.path.insert(0, folder)
    try:
        import gpu_check
        import gpu_check_page
        import gpu_check_parts
    finally:
        sys.path.remove(folder)
    return gpu_check, gpu_check_parts, gpu_check_page


def check(out, *arguments, code=0):
    """The report of a run, which says the same in both files."""
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "-o", str(out), "--device", "cpu"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=1500)
    assert done.returncode == code, done.stdout + done.stderr
    assert sorted(file.name for file in out.iterdir()) == ["gpu_check.json", "gpu_check.md"]
    report, page = json.loads((out / "gpu_check.json").read_text()), (out / "gpu_check.md").read_text()
    assert report["finished"] and report["toy"] and "the times mean nothing" in page and "CPU" in done.stdout
    for name, part in report["parts"].items():
        assert f"| {name} | {part['status']} |" in page
    for text in (page, json.dumps(report)):
        for secret in (socket.gethostname(), getpass.getuser(), str(ROOT), sys.prefix, os.path.expanduser("~")):
            assert secret not in text
    return report, page


def test_steps_are_timed_beside_their_bound_and_nothing_else_is_run(tmp_path):
    report, page = check(tmp_path, "--parts", "time-2d-plain-4-eager", "two-ranks")
    assert set(report["parts"]) == {"phantom", "two-ranks", "time-2d-plain-4-eager"}
    assert report["parts"]["two-ranks"]["status"] == "not run"
    assert "two cards" in report["parts"]["two-ranks"]["reason"]
    timed = report["parts"]["time-2d-plain-4-eager"]
    rows = {row["what"]: row for row in timed["rows"] if row["against"] == "stock step"}
    steps = {"teacher step", "mean jitter step", *(f"student step, teacher of width {width}" for width in ("1", "0.5"))}
    assert {"stock step", "class mean", "teacher forward, width 1", *steps} <= set(rows)
    for name in steps:
        assert len(timed["seconds_of_rounds"][name]) == 2
        assert f"bound {rows[name]['flop_bound']:.2f}" in page
    assert rows["student step, teacher of width 1"]["flop_bound"] > 1.1
    assert timed["patch_size"] == [32, 32] and not timed["compile"] and not timed["amp"]


def test_what_there_is_no_time_for_is_recorded(tmp_path):
    report, _ = check(tmp_path, "--parts", "train-eager", "time-3d-plain-4-eager", "--minutes", "0.05")
    parts = report["parts"]
    assert {part["status"] for part in parts.values()} == {"not run"}
    assert "out of time" in parts["phantom"]["reason"] and "out of time" in parts["time-3d-plain-4-eager"]["reason"]
    assert parts["train-eager"]["reason"] == "there is no phantom"


def test_a_failed_part_is_recorded_and_the_others_go_on(modules, tmp_path, monkeypatch, capsys):
    gpu_check, parts, _ = modules
    place = parts.Place("cpu", tmp_path / "work", 1)
    results = {
        "phantom": {"status": "passed"},
        "train-eager": {"status": "failed", "reason": "Traceback\nValueError: 1"},
    }
    monkeypatch.setattr(gpu_check, "run_part", lambda name, *_: results.get(name, {"status": "passed"}))
    report = gpu_check.Report(tmp_path / "out", {"toy": True})
    gpu_check.run_all({*results, "kill-and-resume"}, place, False, report, time.monotonic() + 9)
    written = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert {name: part["status"] for name, part in written["parts"].items()} == {
        "phantom": "passed",
        "train-eager": "failed",
        "kill-and-resume": "passed",
    }
    assert not written["finished"]
    page = (tmp_path / "out" / "gpu_check.md").read_text()
    assert "## train-eager failed" in page and "ValueError: 1" in page
    assert "train-eager: failed, 0 s ValueError: 1" in capsys.readouterr().out


def test_a_part_that_raises_fails_with_its_traceback(modules, tmp_path):
    gpu_check, parts, _ = modules
    (tmp_path / "raw").mkdir()  # in the phantom's way
    result = gpu_check.run_part("phantom", parts.Place("cpu", tmp_path, 1), time.monotonic() + 120)
    assert result["status"] == "failed" and result["code"] == 1
    assert "FileExistsError" in result["reason"] and "scripts/gpu_check_parts.py" in result["reason"]
    assert str(tmp_path) not in result["reason"] and str(ROOT) not in result["reason"]


def test_names_of_folders_host_and_user_are_left_out(modules):
    gpu_check, _, _ = modules
    file = 'File "/home/somebody/env/lib/python3.12/site-packages/torch/nn.py"'
    text = f"{file} at {socket.gethostname()}:/data/secret/x.py"
    assert gpu_check.anonymous(text) == 'File ".../site-packages/torch/nn.py" at (name):.../x.py'
    assert gpu_check.anonymous("3 / 4 and a/b, ratio 1/2") == "3 / 4 and a/b, ratio 1/2"


@pytest.mark.parametrize("arguments", [["--parts", "no-such"], ["--minutes", "0"], ["--rounds", "0"]])
def test_arguments_that_mean_nothing_are_refused(modules, arguments, capsys):
    with pytest.raises(SystemExit):
        modules[0].main(arguments)
    assert arguments[-1] in capsys.readouterr().err


@pytest.mark.slow
def test_every_kind_of_part_runs_on_the_cpu(modules, tmp_path):
    kinds = {"phantom", "train-eager", "train-compiled", "kill-and-resume", "two-ranks", "time-3d-resenc-4-compiled"}
    assert kinds <= set(modules[1].PARTS)
    report, page = check(tmp_path, "--minutes", "20", "--parts", *kinds)
    assert {name: part["status"] for name, part in report["parts"].items() if name != "two-ranks"} == dict.fromkeys(
        kinds - {"two-ranks"}, "passed"
    )
    for part in ("train-eager", "train-compiled"):
        assert all(loss > 0 for loss in report["parts"][part]["student"]["distillation_losses"])
    assert 1 <= report["parts"]["kill-and-resume"]["killed_after_epochs"] < 4
    assert "| train-compiled | student |" in page
