"""The scripts for cross-validation, with stand-ins for ``shapekd``, ``nvidia-smi`` and ``sbatch``."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT

#: writes down where it runs and its arguments; fails for fold 1 if FAILING=1
SHAPEKD = """#!/usr/bin/env bash
echo "$CUDA_VISIBLE_DEVICES|$*" >>"$RECORD"
[ "$4" != "${FAILING:-none}" ] || { echo "no more memory"; exit 1; }
"""
#: the first two calls return only when both are running
MEETING = """#!/usr/bin/env bash
echo "$CUDA_VISIBLE_DEVICES|$*" >>"$RECORD"
for _ in $(seq 600); do [ "$(wc -l <"$RECORD")" -lt 2 ] || exit 0; sleep 0.1; done
exit 1
"""
#: runs until it is told to end
ENDLESS = """#!/usr/bin/env bash
trap 'kill $!; echo "ended $4" >>"$RECORD"; exit 130' TERM
echo "began $4" >>"$RECORD"
sleep 600 & wait
"""
SBATCH = """#!/usr/bin/env bash
n=$(cat "$RECORD.jobs" 2>/dev/null || echo 100)
printf '%s\\n' "$@" >"$RECORD.$n.arguments"
cat >"$RECORD.$n.script"
echo "$((n + 1))" >"$RECORD.jobs"
echo "$n;cluster"
"""


class Standins:
    """A folder of stand-in programs, put before everything else on PATH, and what they have written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "record"
        (folder / "bin").mkdir()
        self.write("nvidia-smi", "#!/usr/bin/env bash\nexit 9\n")

    def write(self, name: str, text: str) -> None:
        program = self.folder / "bin" / name
        program.write_text(text)
        program.chmod(0o755)

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        own = {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "RECORD": str(self.record)}
        kept = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "nnUNet_preprocessed")}
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts" / script), *arguments],
            env={**kept, **own, **environment},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is not ignored here, whoever runs the tests
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(script, *arguments, **environment)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def calls(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []


@pytest.fixture
def standins(tmp_path) -> Standins:
    standins = Standins(tmp_path)
    standins.write("shapekd", SHAPEKD)
    return standins


@pytest.mark.parametrize("script", ["crossval.sh", "slurm_crossval.sh"])
def test_the_scripts_explain_themselves_and_refuse_what_they_do_not_know(standins, script):
    told = standins.run(script, "--help")
    assert told.returncode == 0 and told.stdout.startswith("usage: bash ") and not told.stderr
    for arguments in (["27"], ["27", "2d", "--nonsense"], ["27", "2d", "--folds"], ["27", "2d", "3"]):
        refused = standins.run(script, *arguments)
        assert refused.returncode == 1 and refused.stderr and not refused.stdout
    assert not standins.calls


def test_without_a_gpu_the_folds_run_one_after_the_other_on_the_cpu(standins):
    result = standins.run("crossval.sh", "27", "2d", "--folds", "0 1 2 3 4", "--", "-tr", "my trainer")
    assert result.returncode == 0, result.stderr
    assert standins.calls == [f"|train 27 2d {fold} --npz --c -device cpu -tr my trainer" for fold in range(5)]
    assert "fold 4 on the CPU, log in shapekd_logs/fold_4.log" in result.stdout
    assert "all folds are finished: 0 1 2 3 4" in result.stdout


def test_two_gpus_train_two_folds_at_a_time(standins):
    standins.write("shapekd", MEETING)
    result = standins.run("crossval.sh", "27", "2d", "--gpus", "3 5", "--folds", "0 1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(standins.calls) == [
        "3|train 27 2d 0 --npz --c -device cuda",
        "5|train 27 2d 1 --npz --c -device cuda",
    ]


@pytest.mark.parametrize(
    ("environment", "nvidia_smi", "used"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,GPU-4"}, "echo 0", {"2", "GPU-4"}),
        ({}, "echo 0; echo 1", {"0", "1"}),
        ({}, "exit 9", {""}),
        ({"CUDA_VISIBLE_DEVICES": ""}, "echo 0", {""}),  # all are hidden
    ],
)
def test_the_gpus_are_those_visible_else_all_else_the_cpu(standins, environment, nvidia_smi, used):
    standins.write("nvidia-smi", f"#!/usr/bin/env bash\n{nvidia_smi}\n")
    standins.run("crossval.sh", "27", "2d", "--folds", "0 1", **environment)
    assert {call.split("|")[0] for call in standins.calls} == used


@pytest.mark.parametrize("dataset", ["27", "027", "Dataset027_ACDC"])
def test_the_folds_are_those_of_the_split_file(standins, dataset):
    folder = standins.folder / "pre processed" / "Dataset027_ACDC"
    folder.mkdir(parents=True)
    (folder / "splits_final.json").write_text('[{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]')
    standins.run("crossval.sh", dataset, "2d", nnUNet_preprocessed=str(folder.parent))
    assert [call.split()[3] for call in standins.calls] == ["0", "1"]


def test_without_a_split_file_no_folds_are_made_up(standins):
    result = standins.run("crossval.sh", "27", "2d", "--gpus", "cpu", nnUNet_preprocessed=str(standins.folder))
    assert result.returncode == 1 and not standins.calls
    assert "has no splits_final.json" in result.stderr and "--folds" in result.stderr


def test_a_failing_fold_stops_no_other_and_is_named_at_the_end(standins):
    result = standins.run(
        "crossval.sh", "27", "2d", "--gpus", "cpu", "--folds", "0 1 2", "--logs", "my logs", FAILING="1"
    )
    assert result.returncode == 1
    assert [call.split()[3] for call in standins.calls] == ["0", "1", "2"]
    assert "failed: fold 1." in result.stderr
    assert "fold 1 FAILED, see my logs/fold_1.log:\nno more memory\n" in result.stdout
    # a later run keeps the log
    standins.run("crossval.sh", "27", "2d", "--folds", "1", "--logs", "my logs", FAILING="1")
    assert (standins.folder / "my logs" / "fold_1.log").read_text() == "no more memory\n" * 2


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("folds", ["0 1", "0 1 2"])  # both GPUs at work; a third fold waiting for one
def test_an_interruption_stops_all_trainings_and_starts_no_other(standins, sent, folds):
    standins.write("shapekd", ENDLESS)
    script = standins.start("crossval.sh", "27", "2d", "--gpus", "0 1", "--folds", folds)
    while len(standins.calls) < 2:
        assert script.poll() is None
        time.sleep(0.05)
    script.send_signal(sent)
    script.communicate(timeout=120)
    assert script.returncode == 130
    assert sorted(standins.calls) == ["began 0", "began 1", "ended 0", "ended 1"]


def submitted(standins: Standins, job: int) -> tuple[list[str], str]:
    arguments = Path(f"{standins.record}.{job}.arguments").read_text().splitlines()
    return arguments, Path(f"{standins.record}.{job}.script").read_text()


def test_every_student_of_the_array_waits_for_the_teacher_of_its_fold(standins):
    standins.write("sbatch", SBATCH)
    result = standins.run("slurm_crossval.sh", "27", "2d")
    assert result.returncode == 0, result.stderr
    teachers, _ = submitted(standins, 100)
    students, _ = submitted(standins, 101)
    assert "--array=0-4" in teachers and "--array=0-4" in students
    assert not [option for option in teachers if option.startswith("--dependency")]
    assert "--dependency=aftercorr:100" in students and "--kill-on-invalid-dep=yes" in students
    for arguments in (teachers, students):
        assert {"--parsable", "--gres=gpu:1", "--requeue", "--export=ALL"} <= set(arguments)
        assert f"--output={standins.folder / 'shapekd_logs'}/%x_%A_%a.log" in arguments
    assert (standins.folder / "shapekd_logs").is_dir()  # sbatch does not make it
    assert "teachers: job 100" in result.stdout and "students: job 101" in result.stdout


def test_every_task_of_the_arrays_trains_its_own_fold(standins):
    standins.write("sbatch", SBATCH)
    standins.run("slurm_crossval.sh", "27", "2d", "--", "-tr", "it's $HOME")
    for job in (100, 101):
        subprocess.run(
            ["bash", "-c", submitted(standins, job)[1]],
            env={
                "PATH": f"{standins.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "RECORD": str(standins.record),
                "SLURM_ARRAY_TASK_ID": "3",
                "CUDA_VISIBLE_DEVICES": "0",
            },
            check=True,
        )
    assert standins.calls == [
        "0|train 27 2d 3 --only teacher --c -tr it's $HOME",
        "0|train 27 2d 3 --only student --c --npz -tr it's $HOME",
    ]
    assert shlex.split(submitted(standins, 100)[1].splitlines()[1])[-1] == "it's $HOME"


def test_own_options_for_sbatch_come_last_so_that_they_win(standins):
    standins.write("sbatch", SBATCH)
    arguments = ("--folds", "0,3", "--sbatch", "--gres=gpu:a100:1", "--sbatch", "--comment=two words")
    standins.run("slurm_crossval.sh", *arguments, "27", "2d")
    for job in (100, 101):
        options, _ = submitted(standins, job)
        assert options[-2:] == ["--gres=gpu:a100:1", "--comment=two words"]
        assert "--array=0,3" in options


def test_students_that_were_not_submitted_are_an_error_that_names_the_teachers_job(standins):
    refusing = (
        "#!/usr/bin/env bash\ncat >/dev/null\n"  # as sbatch does, reads the script
        'case "$*" in *aftercorr*) echo "sbatch: no such partition" >&2; exit 1 ;; esac\necho 7\n'
    )
    standins.write("sbatch", refusing)
    result = standins.run("slurm_crossval.sh", "27", "2d")
    assert result.returncode == 1
    assert "no such partition" in result.stderr and "the teachers were, as job 7" in result.stderr
