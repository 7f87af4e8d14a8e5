"""All that is wrong is found before anything is predicted."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from networks import STUDENT, TEACHER, folders, models_with_split, plain_raw

pytest.importorskip("torchio")

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.stress import plan
from nnunet_shapekd.stress.options import StressOptions
from nnunet_shapekd.stress.plan import changed_classes, plan_steps
from nnunet_shapekd.stress.shifts import SHIFTS

root = pytest.fixture(scope="module")(folders)
models = pytest.fixture(scope="module")(models_with_split)
raw = pytest.fixture(scope="module")(plain_raw)


def refused(capsys, tmp_path: Path, *arguments) -> str:
    """What the command says; it must end with 1 and write nothing."""
    out = tmp_path / "out"
    assert main(["stress", *map(str, arguments), "-o", str(out), "-device", "cpu"]) == 1
    assert not out.exists()
    return capsys.readouterr().err


def test_all_that_is_wrong_is_listed_and_nothing_is_written(models, raw, tmp_path, capsys):
    images, labels = (shutil.copytree(raw / name, tmp_path / name) for name in ("imagesTr", "labelsTr"))
    (labels / "case_1.nii.gz").unlink()
    (images / "case_2_0001.nii.gz").write_bytes(b"no image")
    reference = sitk.ReadImage(str(labels / "case_3.nii.gz"))
    reference[0, 0, 0] = 77
    sitk.WriteImage(reference, str(labels / "case_3.nii.gz"))
    arguments = ["--shifts", "rain", "--severities", 1, 5, "--invert", "spleen"]
    arguments += ["--classes", "RV", "liver", "heart", "--cases", 0, "--all-cases"]
    said = refused(capsys, tmp_path, models[STUDENT], images, labels, *arguments)
    for problem in (
        "--shifts: expected some of gamma-dark, ",
        "got rain",
        "--severities: expected some of 1 to 4, got 1, 5",
        "--invert spleen: no such class; there are RV, MLV, LVC",
        "--classes liver heart: no such class; there are RV, MLV, LVC",
        "--cases: expected 1 or more, got 0",
        f"{labels / 'case_1.nii.gz'}: is missing",
        f"{images / 'case_2_0001.nii.gz'}: cannot be read",
        "77",
    ):
        assert problem in said
    assert said.count("\n  - ") == 10


def test_wrong_numbers_geometry_and_patterns_are_found_before_anything_is_predicted(models, raw, tmp_path, capsys):
    images, labels = (shutil.copytree(raw / name, tmp_path / name) for name in ("imagesTr", "labelsTr"))
    for path, change in (
        (labels / "case_1.nii.gz", lambda image: image.SetOrigin((50, 0, 0))),
        (labels / "case_2.nii.gz", lambda image: image.SetSpacing((3, 3, 3))),
        (labels / "case_3.nii.gz", lambda image: image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))),
        (images / "case_2_0001.nii.gz", lambda image: image.SetSpacing((9, 9, 9))),
    ):
        image = sitk.ReadImage(str(path))
        change(image)
        sitk.WriteImage(image, str(path))
    arguments = ["--tolerance", -1, "-np", 0, "-npp", -1, "--seed", -1, "--leave-out", "XX", "--pattern", "("]
    said = refused(capsys, tmp_path, models[STUDENT], images, labels, "--all-cases", *arguments)
    for problem in (
        "--tolerance: expected 0 or more, got -1",
        "-np: expected 1 or more, got 0",
        "-npp: expected 0 or more, got -1",
        "--seed: expected 0 or more, got -1",
        "--leave-out XX: no such class",
        "--pattern (: is no regular expression",
        f"{labels / 'case_1.nii.gz'}: origin (50, 0, 0) differs from the image's",
        f"{labels / 'case_2.nii.gz'}: spacing (3, 3, 3) differs from the image's",
        f"{labels / 'case_3.nii.gz'}: orientation",
        f"{images / 'case_2_0001.nii.gz'}: spacing (9, 9, 9) differs from case_2_0000.nii.gz's",
    ):
        assert problem in said
    assert said.count("\n  - ") == 10


def test_a_teacher_is_refused(models, raw, tmp_path, capsys):
    said = refused(capsys, tmp_path, models[TEACHER], raw / "imagesTr", raw / "labelsTr")
    assert "checkpoint_final.pth is a teacher's" in said


def test_without_torchio_one_line_says_what_to_type(models, raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchio", None)
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", raw / "labelsTr")
    assert "pip install 'torchio>=1.2,<2'" in said and said.count("\n") == 1


def test_an_old_torchio_is_refused(models, raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "version", lambda name: "0.20.1")
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", raw / "labelsTr")
    assert "0.20.1" in said and "pip install 'torchio>=1.2,<2'" in said


def test_references_of_other_values_or_sizes_are_refused(models, raw, tmp_path, capsys):
    labels = shutil.copytree(raw / "labelsTr", tmp_path / "labelsTr")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(labels / "case_3.nii.gz")))
    sitk.WriteImage(sitk.GetImageFromArray(array[:-1]), str(labels / "case_3.nii.gz"))
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", labels, "-f", 0)
    assert "case_3.nii.gz: shape (" in said and "differs from the image's (" in said
    content = json.loads((raw / "dataset.json").read_text())
    content["labels"] |= {"RV": 2, "MLV": 1}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    said = refused(capsys, tmp_path, models[STUDENT], raw / "imagesTr", labels, "-f", 0)
    assert "(value 1 becomes 2; value 2 becomes 1)" in said


def steps_of(**options) -> tuple[list[tuple[str, int]], list[str]]:
    return plan_steps(StressOptions(**options))


def test_all_shifts_are_on_by_default_inversion_where_it_is_said_of_what():
    assert {shift for shift, _ in steps_of(invert="LVC")[0]} == {"none", *SHIFTS}
    assert {shift for shift, _ in steps_of()[0]} == {"none", *SHIFTS} - {"inversion"}
    assert steps_of(shifts=["blur"], severities=[4, 1]) == ([("none", 0), ("blur", 1), ("blur", 4)], [])
    assert "--invert" in steps_of(shifts=["inversion"])[1][0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"invert": "LVC"}, "--invert LVC: is for the shift inversion, which"),
        ({"classes": ["RV", "LVC"]}, "--classes RV LVC: is for the shift class-contrast or class-spread, which"),
    ],
)
def test_classes_named_for_a_shift_that_is_not_made_are_refused(given, said):
    (problem,) = steps_of(shifts=["blur"], **given)[1]
    assert problem.startswith(said)


HEART = {"RV": (1,), "MLV": (2,), "LVC": (3,)}
TUMOUR = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


@pytest.mark.parametrize(
    ("known", "named", "expected"),
    [
        (HEART, None, [[1], [2], [3]]),
        (HEART, ["LVC", "2"], [[2], [3]]),
        ({"disc": (1, 2, 4), "cup": (2, 4)}, None, [[1], [2, 4]]),
        (TUMOUR, None, [[1], [2], [3]]),
        (TUMOUR, ["whole"], [[1, 2, 3]]),
        (TUMOUR, ["whole", "core"], [[1], [2, 3]]),
    ],
)
def test_what_is_changed_as_one_class_is_held_by_the_same_of_the_named(known, named, expected):
    changed, problems = changed_classes(known, StressOptions(classes=named, invert=list(known)[-1]))
    assert changed["class-contrast"] == changed["class-spread"] == expected and not problems
    assert changed["inversion"] == [list(known[list(known)[-1]])]
