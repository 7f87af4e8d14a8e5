import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import DATASET, ROOT

from nnunet_shapekd import __version__
from nnunet_shapekd.commands.cli import COMMANDS, main
from nnunet_shapekd.commands.convert import CONVERSIONS
from nnunet_shapekd.trainers_folder import export_line, trainers_folder

#: what can be typed behind shapekd
TYPED = (*COMMANDS, *(f"convert {name}" for name in CONVERSIONS))


@pytest.fixture
def shapekd(planned):
    return lambda *arguments, **environment: planned.run("shapekd", *arguments, check=False, **environment)


@pytest.fixture
def doctor(nnunet_environment, capsys, monkeypatch):
    """`shapekd doctor ARGUMENTS` in this process, a variable given as None unset -> exit code and output."""

    def run(*arguments, **environment):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value) if value is not None else patch.delenv(name)
            code = main(["doctor", *arguments])
        return SimpleNamespace(returncode=code, stdout=capsys.readouterr().out)

    return run


@pytest.mark.parametrize("command", ["", *TYPED])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert f"usage: {f'shapekd {command}'.strip()} " in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_a_line_in_the_table_and_a_file_with_two_functions(command, capsys):
    module = importlib.import_module(f"nnunet_shapekd.commands.{command}")
    assert callable(module.add_arguments) and callable(module.run)
    with pytest.raises(SystemExit):
        main(["--help"])
    # argparse indents a command by four blanks
    assert re.search(rf"^    {command} +{re.escape(COMMANDS[command])}$", capsys.readouterr().out, re.MULTILINE)


def test_every_file_that_brings_arguments_and_runs_is_in_the_table():
    files = {path.stem for path in (ROOT / "nnunet_shapekd" / "commands").glob("*.py")}
    texts = {name: (ROOT / "nnunet_shapekd" / "commands" / f"{name}.py").read_text() for name in files}
    assert {name for name, text in texts.items() if re.search(r"^def run\(args", text, re.MULTILINE)} == set(COMMANDS)


def test_only_the_file_of_the_command_that_is_typed_is_imported():
    code = (
        "import contextlib, sys\n"
        "from nnunet_shapekd.commands.cli import main\n"
        "with contextlib.suppress(SystemExit): main(sys.argv[1:])\n"
        "print(*(name.split('.')[-1] for name in sys.modules if name.startswith('nnunet_shapekd.commands.')))"
    )
    for typed, expected in (("--help", set()), ("phantom --help", {"phantom"}), ("convert acdc -h", {"convert"})):
        done = subprocess.run([sys.executable, "-c", code, *typed.split()], capture_output=True, text=True)
        assert set(done.stdout.splitlines()[-1].split()) == {"cli", "arguments", *expected}, done.stderr


def test_the_trainers_are_listed_and_the_list_is_not_a_line_for_a_shell(capsys):
    from nnunet_shapekd.training.variants import listing

    assert main(["trainers", "--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == list(listing()) and any("nnUNetTrainerShapeKD" in line for line in printed)


def test_list_and_export_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as end:
        main(["trainers", "--list", "--export", "bash"])
    assert end.value.code == 2 and "--export" in capsys.readouterr().err


def test_help_and_trainers_import_no_torch():
    code = (
        "import contextlib, sys\n"
        "from nnunet_shapekd.commands.cli import main\n"
        "main(['trainers'])\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "sys.exit('torch' in sys.modules or 'SimpleITK' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_no_commands_help_imports_torch_or_nnunet():
    code = (
        "import contextlib, sys\n"
        "from nnunet_shapekd.commands.cli import main\n"
        "for command in sys.argv[1:]:\n"
        "    with contextlib.suppress(SystemExit): main([*command.split(), '--help'])\n"
        "    assert not {'torch', 'nnunetv2', 'matplotlib'} & set(sys.modules), command\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *TYPED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: shapekd") == len(TYPED)


def test_the_trainers_folder_holds_the_trainers_and_nothing_is_in_nnunetv2(capsys):
    assert main(["trainers"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert {"nnUNetTrainerMeanImage.py", "nnUNetTrainerShapeKD.py"} <= {path.name for path in folder.iterdir()}
    import nnunetv2

    assert not list(Path(nnunetv2.__path__[0]).rglob("*ShapeKD*"))


def test_the_bash_line_sets_the_folder_and_keeps_those_already_there(tmp_path):
    line = export_line("bash", f"/my own/trainers{os.pathsep}{trainers_folder()}")
    shown = subprocess.run(["bash", "-c", f'{line}; printf %s "$nnUNet_extTrainer"'], capture_output=True, text=True)
    assert shown.stdout == f"/my own/trainers{os.pathsep}{trainers_folder()}"


def test_what_to_type_next_can_be_pasted_whatever_the_folder_is_called(tmp_path, capsys):
    out = tmp_path / "my heart"
    assert main(["phantom", str(out), "--patients", "1", "--test-patients", "0"]) == 0
    assert f"Next: shapekd convert acdc '{out}'" in capsys.readouterr().out


def test_the_powershell_line_doubles_single_quotes():
    assert export_line("powershell", "/it's") == f"$env:nnUNet_extTrainer = '/it''s{os.pathsep}{trainers_folder()}'"


def test_the_line_says_nothing_of_other_folders_when_there_are_none(capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    assert main(["trainers", "--export", "bash"]) == 0
    assert capsys.readouterr().out == f"export nnUNet_extTrainer={trainers_folder()}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["phantom", "x", "--patients", "0"], "got 0"),
        (["convert", "acdc", "nowhere", "-d", "28"], "nowhere"),
        (["convert", "acdc", "phantom"], "Dataset027_ACDC"),
        (["doctor", "-f", "0"], "shapekd doctor -d 27 -f 0"),
        (["doctor", "-d", "27", "-f", "one"], "got 'one'"),
    ],
)
def test_errors_are_readable_without_traceback_and_exit_not_0(shapekd, arguments, message):
    result = shapekd(*arguments)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr


def test_the_doctor_finds_a_sound_installation_and_its_teacher(planned, teacher, shapekd):
    result = shapekd("doctor", "-d", "27", "-f", "0")
    assert result.returncode == 0, result.stdout
    assert "FAIL" not in result.stdout
    for line in (
        f"nnU-Net finds nnUNetTrainerShapeKD in {trainers_folder()}",
        "teacher nnUNetTrainerMeanImage_1epoch, plans tinyPlans, 2d, fold_0",
        "5 fold(s), no patient in training and validation of one fold",
        "train folds 0 to 4 only",
    ):
        assert line in result.stdout


@pytest.mark.parametrize(
    "found, ok", [("2.8", True), ("2.9a1", True), ("2.10.1.dev3+g12ab", True), ("2.7.9", False), ("3.0b2", False)]
)
def test_the_doctor_reads_versions(monkeypatch, found, ok):
    from nnunet_shapekd.commands import doctor

    monkeypatch.setattr(doctor, "version", lambda name: found)
    assert next(iter(doctor._installation())).ok is ok


def test_the_doctor_says_what_to_do_when_the_variable_is_missing_or_wrong(doctor, tmp_path):
    unset = doctor(nnUNet_extTrainer=None)
    assert unset.returncode == 1 and "FAIL  nnUNet_extTrainer is not set" in unset.stdout
    assert f"-> export nnUNet_extTrainer={trainers_folder()}" in unset.stdout
    wrong = doctor(nnUNet_extTrainer=str(tmp_path))
    assert wrong.returncode == 1 and "FAIL  nnU-Net does not find nnUNetTrainerMeanImage" in wrong.stdout


def test_the_doctor_notices_trainers_of_another_copy(doctor, tmp_path):
    for path in Path(trainers_folder()).glob("nnUNet*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    result = doctor(nnUNet_extTrainer=f"{tmp_path}{os.pathsep}{trainers_folder()}")
    assert result.returncode == 1 and f"FAIL  nnU-Net finds nnUNetTrainerShapeKD in {tmp_path}" in result.stdout


def test_the_doctor_names_missing_folders_teachers_and_datasets(planned, doctor, tmp_path):
    missing = doctor(nnUNet_results=str(tmp_path / "nowhere"), nnUNet_raw=None)
    assert missing.returncode == 1
    assert f"FAIL  nnUNet_results={tmp_path / 'nowhere'} is no folder" in missing.stdout
    assert "FAIL  nnUNet_raw is not set" in missing.stdout
    empty = doctor("-d", "27", nnUNet_raw="")  # which would be the current folder
    assert empty.returncode == 1 and "FAIL  nnUNet_raw is not set" in empty.stdout
    no_teacher = doctor("-d", "27", "-f", "3")
    assert no_teacher.returncode == 1
    assert "FAIL  Dataset027_ACDC: fold 3 does not have a finished teacher" in no_teacher.stdout
    assert "-> train one, for example: nnUNetv2_train 27 2d 3 -tr nnUNetTrainerMeanImage" in no_teacher.stdout
    for name in ("99", "Dataset_foo", "ACDC"):
        no_dataset = doctor("-d", name)
        assert no_dataset.returncode == 1 and f"FAIL  dataset {name}" in no_dataset.stdout


def test_the_doctor_sees_a_patient_on_both_sides(planned, doctor):
    path = planned.root / "preprocessed" / DATASET / "splits_final.json"
    good = path.read_text()
    splits = json.loads(good)
    splits[0]["train"].append(splits[0]["val"].pop())
    try:
        path.write_text(json.dumps(splits))
        torn = doctor("-d", "27")
        path.write_text('[{"train": []}]')
        broken = doctor("-d", "27")
        path.write_text("[]")
        none = doctor("-d", "27")
    finally:
        path.write_text(good)
    assert torn.returncode == 1 and "1 patient(s) on both sides" in torn.stdout
    assert broken.returncode == 1 and f"FAIL  {path} is no list of folds" in broken.stdout
    assert none.returncode == 1 and f"FAIL  {path} holds no fold" in none.stdout


def test_the_doctor_knows_mnms_names_and_tables_and_never_says_ok_of_unknown_patients(planned, doctor):
    path = planned.root / "preprocessed" / DATASET / "splits_final.json"
    table = planned.root / "raw" / DATASET / "patients.csv"
    good = path.read_text(), table.read_text()

    def examined(train: list[str], val: list[str], rows: str):
        path.write_text(json.dumps([{"train": train, "val": val}]))
        table.write_text(rows)
        return doctor("-d", "27")

    try:
        mnms = examined(["A1D0Z6_ED"], ["A1D0Z6_ES"], "case,patient\n")
        by_table = examined(["liver_1"], ["liver_2"], "case,patient\nliver_1,x\nliver_2,x\n")
        unknown = examined(["liver_1"], ["liver_2"], "id,age\n")
        empty = examined(["liver_1"], ["liver_2"], "case,patient\nliver_1,\nliver_2,x\n")
    finally:
        path.write_text(good[0])
        table.write_text(good[1])
    assert mnms.returncode == 1 and "1 patient(s) on both sides, like A1D0Z6" in mnms.stdout
    assert by_table.returncode == 1 and "1 patient(s) on both sides, like x" in by_table.stdout
    assert f"?     {path}: 1 fold(s); whether they keep patients together is not known" in unknown.stdout
    assert f"-> say it in {table}" in unknown.stdout and "no patient in training and validation" not in unknown.stdout
    assert empty.returncode == 1 and "the patient of liver_1 is empty" in empty.stdout


def test_a_wheel_has_one_top_level_package_that_holds_trainers_and_conversions(tmp_path):
    checkout = tmp_path / "checkout"  # building leaves folders behind
    for name in ("nnunet_shapekd", "trainers", "dataset_conversion"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = [sys.executable, "-m", "pip", "wheel", str(checkout), "-w", str(tmp_path), "--no-deps"]
    done = subprocess.run([*build, "--no-build-isolation", "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert {name.split("/")[0] for name in names} == {"nnunet_shapekd", f"nnunet_shapekd-{__version__}.dist-info"}
    for module in (
        "method/class_mean.py",
        "trainers/nnUNetTrainerShapeKD.py",
        "dataset_conversion/acdc.py",
        "training/curves.py",
    ):
        assert f"nnunet_shapekd/{module}" in names
    assert "License: Apache-2.0" in metadata and "Requires-Dist: nnunetv2<3,>=2.8" in metadata
    # every module of the checkout is in the wheel: a forgotten sub-package fails here
    modules = {
        p.relative_to(ROOT).as_posix()
        for ending in ("py", "html")
        for p in (ROOT / "nnunet_shapekd").rglob(f"*.{ending}")
    }
    assert modules <= set(names)
