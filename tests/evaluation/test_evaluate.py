"""``shapekd evaluate``: folders in, metrics.csv, summary.json and a table out."""

import csv
import json
import math
import os
import subprocess
import sys
import tracemalloc

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, labels_to_list_of_regions
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.judge import judge
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.record import columns
from nnunet_shapekd.evaluation.results import mean_over_classes, read_evaluation, summarise, write_evaluation
from nnunet_shapekd.files.dataset_json import Labels, labels_of_dataset
from nnunet_shapekd.files.label_maps import LabelMap

ACDC = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
SPACING = (10.0, 1.5, 1.5)  # z, y, x


def heart(seed=0, shape=(6, 48, 48)):
    """A ring of myocardium around a cavity, beside a right ventricle, displaced by the seed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]]
    labels = np.zeros(shape, dtype=np.uint8)
    cy, cx = 24 + random.integers(-2, 3, size=2)
    distance = np.hypot(y - cy, x - cx)
    labels[1:5, np.hypot(y - cy, x - cx + 12) < 9] = 1
    labels[1:5, distance < 10] = 2
    labels[1:5, distance < 6] = 3
    return labels


def save(values, path, spacing=SPACING, **geometry):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    if spacing is not None:
        image.SetSpacing(spacing[::-1][-image.GetDimension() :] if image.GetDimension() == 3 else spacing)
    for name, value in geometry.items():
        getattr(image, f"Set{name.title()}")(value)
    sitk.WriteImage(image, str(path))


def dataset_json(folder, labels=ACDC, file_ending=".nii.gz", **entries):
    content = {"channel_names": {"0": "x"}, "labels": labels, "numTraining": 1, "file_ending": file_ending, **entries}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def folders(tmp_path):
    """Six frames of three patients, and predictions of which each is another heart's reference."""
    dataset_json(tmp_path)
    names = [f"patient{patient:03d}_frame{frame:02d}" for patient in (1, 2, 3) for frame in (1, 9)]
    for i, name in enumerate(names):
        save(heart(i), tmp_path / "labelsTr" / f"{name}.nii.gz")
        save(heart(i + 1), tmp_path / "predictions" / f"{name}.nii.gz")
    rows = [f"patient{p:03d},1,9" for p in (1, 2, 3)]
    (tmp_path / "patients.csv").write_text("\n".join(["patient,ed_frame,es_frame", *rows]) + "\n")
    return tmp_path / "labelsTr", tmp_path / "predictions"


def pair(tmp_path, reference, prediction, labels=ACDC, ending=".nii.gz", spacing=SPACING, **entries):
    """One case of one folder each, evaluated."""
    dataset_json(tmp_path, labels, ending, **entries)
    save(reference, tmp_path / "labelsTr" / f"case{ending}", spacing)
    save(prediction, tmp_path / "predictions" / f"case{ending}", spacing)
    return evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")


def of(evaluation, name):
    (row,) = (row for row in evaluation.rows if row["class"] == name)
    return row


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_dice_and_iou_are_nnunets(folders):
    reference, prediction = folders
    found = evaluate_folders(reference, prediction)
    expected = compute_metrics_on_folder(
        str(reference), str(prediction), None, SimpleITKIO(), ".nii.gz", [1, 2, 3], num_processes=1
    )
    for case in expected["metric_per_case"]:
        for label, name in ((1, "RV"), (2, "MLV"), (3, "LVC")):
            (row,) = (r for r in found.rows if r["class"] == name and f"{r['case']}.nii.gz" in case["prediction_file"])
            assert row["dice"] == pytest.approx(case["metrics"][label]["Dice"])
            assert row["iou"] == pytest.approx(case["metrics"][label]["IoU"])
    assert len(found.rows) == 18


def test_volumes_and_distances_are_in_millilitres_and_millimetres(tmp_path):
    reference, prediction = np.zeros((4, 8, 8), dtype=np.uint8), np.zeros((4, 8, 8), dtype=np.uint8)
    reference[1, 2, 2] = 1
    prediction[2, 2, 4] = 1
    found = pair(tmp_path, reference, prediction)
    row = of(found, "RV")
    assert (found.distance_unit, found.size_unit) == ("mm", "ml")
    assert row["reference_size"] == pytest.approx(10 * 1.5 * 1.5 / 1000)
    assert row["hd"] == row["hd95"] == row["assd"] == pytest.approx(math.hypot(10, 3))
    assert row["dice"] == row["nsd"] == 0 and row["empty"] == ""


def test_a_mask_missing_from_one_side_has_the_worst_values_and_from_both_none(tmp_path):
    reference, prediction = np.zeros((4, 8, 8), dtype=np.uint8), np.zeros((4, 8, 8), dtype=np.uint8)
    reference[1, 2, 2] = 1
    prediction[1, 2, 2] = 2
    found = pair(tmp_path, reference, prediction)
    diagonal = math.hypot(4 * 10, 8 * 1.5, 8 * 1.5)
    for name, empty in (("RV", "prediction"), ("MLV", "reference")):
        row = of(found, name)
        assert row["empty"] == empty
        assert row["dice"] == row["iou"] == row["nsd"] == 0
        assert row["hd"] == row["hd95"] == row["assd"] == pytest.approx(diagonal)
    row = of(found, "LVC")
    assert row["empty"] == "both" and all(math.isnan(row[metric]) for metric in METRICS)
    summary = summarise(found)
    assert summary["empty_masks"]["RV"] == {"both": 0, "reference": 0, "prediction": 1}
    assert summary["metrics"]["LVC"]["dice"] == {"mean": None, "sd": None, "median": None, "n": 0}
    assert mean_over_classes(found, "dice") == {"case": 0}  # of the two classes it is defined for


def test_an_empty_image_is_undefined_in_everything(tmp_path):
    nothing = np.zeros((4, 8, 8), dtype=np.uint8)
    found = pair(tmp_path, nothing, nothing)
    assert all(math.isnan(row[metric]) for row in found.rows for metric in METRICS)
    assert summarise(found)["metrics"]["mean"]["dice"]["n"] == 0


def test_regions_are_unions_of_their_labels(tmp_path):
    labels = {"background": 0, "heart": [1, 2, 3], "left": [2, 3], "cavity": 3}
    found = pair(tmp_path, heart(0), heart(1), labels, regions_class_order=[1, 2, 3])
    masks = [np.isin(heart(seed), (2, 3)) for seed in (0, 1)]
    assert of(found, "left")["dice"] == pytest.approx(
        2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
    )
    assert found.classes == {"heart": (1, 2, 3), "left": (2, 3), "cavity": (3,)}


def test_what_the_reference_ignores_counts_on_neither_side(tmp_path):
    labels = {"background": 0, "organ": 1, "ignore": 2}
    reference, prediction = np.zeros((3, 9, 9), dtype=np.uint8), np.zeros((3, 9, 9), dtype=np.uint8)
    reference[1, 2:5, 2:5] = prediction[1, 2:5, 2:5] = 1
    reference[1, 6:] = 2
    prediction[1, 6:8] = 1  # on ignored voxels only
    row = of(pair(tmp_path, reference, prediction, labels), "organ")
    assert row["dice"] == row["nsd"] == 1 and row["hd"] == 0 and row["extra_components"] == 0
    assert row["prediction_size"] == row["reference_size"] == pytest.approx(9 * 22.5 / 1000)
    expected = compute_metrics_on_folder(
        *(str(tmp_path / name) for name in ("labelsTr", "predictions")),
        *(None, SimpleITKIO(), ".nii.gz", labels_to_list_of_regions([1]), 2, 1),
    )
    assert expected["metric_per_case"][0]["metrics"][(1,)]["Dice"] == 1


def test_plausibility_of_both_sides_is_counted(tmp_path):
    prediction = heart(0)
    prediction[2, 24, 24:] = 0  # opens the ring of one slice, cuts nothing off in three dimensions
    prediction[1, 45, 45] = 2
    found = pair(tmp_path, heart(0), prediction)
    row = of(found, "MLV")
    assert (row["ring_slices"], row["reference_ring_slices"]) == (4, 4)
    assert (row["open_ring_slices"], row["reference_open_ring_slices"]) == (1, 0)
    assert (row["extra_components"], row["reference_extra_components"]) == (1, 0)
    assert all(math.isnan(of(found, name)["ring_slices"]) for name in ("RV", "LVC"))
    assert summarise(found)["plausibility"]["MLV"]["open_ring_slices"] == 1


def test_a_volume_of_one_slice_is_judged_as_the_slice(tmp_path):
    reference, prediction = heart(0)[2:3], heart(1)[2:3]
    (tmp_path / "flat").mkdir()
    flat = pair(tmp_path / "flat", reference[0], prediction[0], spacing=(1.5, 1.5), ending=".nrrd")
    found = pair(tmp_path / "volume", reference, prediction)
    assert (found.size_unit, flat.size_unit) == ("ml", "mm2")
    for name in ACDC:
        if name != "background":
            for metric in METRICS:
                assert of(found, name)[metric] == pytest.approx(of(flat, name)[metric])
            assert of(flat, name)["reference_size"] == pytest.approx(100 * of(found, name)["reference_size"])
    assert of(found, "MLV")["ring_slices"] == of(flat, "MLV")["ring_slices"] == 1


@pytest.mark.parametrize("flat", ["reference", "prediction"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_slice_may_have_two_axes_on_one_side_and_three_on_the_other(tmp_path, flat, ending):
    dataset_json(tmp_path, file_ending=ending)
    for folder, side, values in (("labelsTr", "reference", heart(0)), ("predictions", "prediction", heart(1))):
        values, spacing = (values[2], (1.5, 1.5)) if side == flat else (values[2:3], SPACING)
        save(values, tmp_path / folder / f"case{ending}", spacing)
    found = evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")
    expected = pair(tmp_path / "volumes", heart(0)[2:3], heart(1)[2:3])
    for name in ("RV", "MLV", "LVC"):
        for metric in (*METRICS, "extra_components", "holes", "open_ring_slices"):
            assert of(found, name)[metric] == pytest.approx(of(expected, name)[metric], nan_ok=True)
    save(heart(1)[2:4], tmp_path / "predictions" / f"case{ending}")
    with pytest.raises(ValueError, match=r"shape \(2, 48, 48\) differs"):
        evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")


def test_directions_that_are_not_orthonormal_are_judged_as_nnunet_judges_them(tmp_path):
    dataset_json(tmp_path)
    affine = np.array([[1.5, 0.3, 0, 1], [0, 1.5, 0, 2], [0, 0, 10, 3], [0, 0, 0, 1.0]])
    for folder, values in (("labelsTr", heart(0)), ("predictions", heart(1))):
        (tmp_path / folder).mkdir()
        image = nibabel.Nifti1Image(values.T, affine)
        nibabel.save(image, tmp_path / folder / "case.nii.gz")
    found = evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")
    expected = pair(tmp_path / "straight", heart(0), heart(1))
    for mine, theirs in zip(found.rows, expected.rows, strict=True):
        assert mine["dice"] == theirs["dice"]
    # a reference with an orthonormal second choice, which ITK takes, lies where its prediction does
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "labelsTr" / "case.nii.gz")
    assert SimpleITKIO().read_seg(str(tmp_path / "labelsTr" / "case.nii.gz"))
    assert evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions").rows[0]["dice"] == 1


def test_another_origin_is_judged_if_asked_for_and_nothing_else_that_differs(folders, tmp_path, capsys):
    reference, prediction = folders
    first, second, *_ = sorted(path.name for path in reference.iterdir())
    save(heart(1), prediction / first, origin=(50.0, 0.0, 0.0))
    with pytest.raises(ValueError, match=r"origin \(50, 0, 0\) differs"):
        evaluate_folders(*folders)
    arguments = ["evaluate", *map(str, folders), "-o", str(tmp_path / "out"), "--ignore-origins"]
    assert main(arguments) == 0
    assert f"another origin than the reference's: {first.removesuffix('.nii.gz')}" in capsys.readouterr().err
    save(heart(2), prediction / second, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    with pytest.raises(ValueError, match="orientation"):
        evaluate_folders(*folders, Judging(ignore_origins=True))


@pytest.mark.parametrize("regions", [False, True])
def test_memory_does_not_grow_with_the_classes(regions):
    values = (np.arange(64**3).reshape(64, 64, 64) // 64**2 // 2 + 1).astype(np.uint8)  # 32 slabs
    space = (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()), "mm"

    def peak(n: int) -> int:
        names = {str(value): (value, value + 1) if regions else (value,) for value in range(1, n)}
        maps = [LabelMap(np.minimum(moved, n), *space) for moved in shifted]
        tracemalloc.start()
        judge(*maps, Labels(names), 1.0, {})
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    shifted = values, np.roll(values, 1, axis=1)
    peak(2)  # what is imported on the way
    assert peak(32) - peak(2) < values.size  # one mask's bytes


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_command_writes_tidy_metrics_a_summary_and_indices_and_prints_the_table(folders, tmp_path, capsys):
    out = tmp_path / "my out"
    assert main(["evaluate", *map(str, folders), "-o", str(out), "--name", "mine", "--processes", "1"]) == 0
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert len(rows) == 6 * 3
    assert {"dice", "hd95_mm", "reference_ml", "open_ring_slices"} <= set(rows[0])
    assert {(row["patient"], row["phase"]) for row in rows} == {
        (f"patient00{p}", ph) for p in (1, 2, 3) for ph in ("ED", "ES")
    }
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["n_cases"], summary["n_patients"]) == (6, 3)
    dice = [float(row["dice"]) for row in rows if row["class"] == "RV"]
    assert summary["metrics"]["RV"]["dice"]["mean"] == pytest.approx(np.mean(dice), rel=1e-5)
    assert summary["metrics"]["RV"]["dice"]["sd"] == pytest.approx(np.std(dice, ddof=1), rel=1e-4)
    assert {row["index"] for row in summary["cardiac_indices"]} >= {"LV EF", "RV EDV", "LV mass"}
    assert (out / "cardiac.csv").is_file()
    printed = capsys.readouterr().out
    assert f"Next: shapekd report '{out}' -o REPORT" in printed
    assert "mine: 6 cases of 3 patients" in printed and "Empty masks: none." in printed and "LV EF (%)" in printed


def test_what_is_written_is_read_again(folders, tmp_path):
    evaluation = evaluate_folders(*folders)
    write_evaluation(evaluation, tmp_path / "out")
    again = read_evaluation(tmp_path / "out")
    assert (again.classes, again.cardiac, again.reference) == (evaluation.classes, evaluation.cardiac, folders[0])
    for row, expected in zip(again.rows, evaluation.rows, strict=True):
        assert row == {
            k: v if isinstance(v, str) else pytest.approx(v, rel=1e-5, nan_ok=True) for k, v in expected.items()
        }
        assert tuple(row) == columns()


def test_processes_change_nothing(folders, monkeypatch):
    from nnunet_shapekd.evaluation import evaluate

    alone = evaluate_folders(*folders, Judging(processes=1))
    monkeypatch.setattr(evaluate, "_WORKER_START_S", 0.0)
    assert repr(evaluate_folders(*folders, Judging(processes=2)).rows) == repr(alone.rows)


def test_png_masks_are_measured_in_pixels(tmp_path, capsys):
    dataset_json(tmp_path, {"background": 0, "disc": [1, 2], "cup": 2}, ".png", regions_class_order=[1, 2])
    y, x = np.mgrid[:64, :64]
    for name, shift in (("labelsTr", 0), ("predictions", 3)):
        values = (np.hypot(y - 30, x - 30 - shift) < 20).astype(np.uint8)
        values[np.hypot(y - 30, x - 30 - shift) < 8] = 2
        save(values, tmp_path / name / "eye_01.png", spacing=None)
    assert (
        main(["evaluate", str(tmp_path / "labelsTr"), str(tmp_path / "predictions"), "-o", str(tmp_path / "out")]) == 0
    )
    (disc, _) = csv.DictReader((tmp_path / "out" / "metrics.csv").open())
    assert float(disc["hd_px"]) == 3 and float(disc["reference_px"]) == np.sum(np.hypot(y - 30, x - 30) < 20)
    assert "distances in px" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_other_formats_give_the_same_numbers(tmp_path, ending):
    found = pair(tmp_path / "other", heart(0), heart(1), ending=ending)
    assert repr(found.rows) == repr(pair(tmp_path / "nifti", heart(0), heart(1)).rows)


def test_labels_by_value_need_no_dataset_json(folders, tmp_path):
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset.json.*-l"):
        evaluate_folders(*folders)
    found = evaluate_folders(*folders, Judging(labels=[1, 2, 3]))
    assert list(found.classes) == ["1", "2", "3"] and not found.cardiac
    with pytest.raises(ValueError, match=r"label value 3; .* 0, 1, 2; .*--leave-out"):
        evaluate_folders(*folders, Judging(labels=[1, 2]))


def test_a_class_left_out_is_background_for_the_others(folders):
    found = evaluate_folders(*folders, Judging(leave_out=["RV"]))
    assert list(found.classes) == ["MLV", "LVC"] and found.left_out == (1,)
    cavity = [
        [row["dice"] for row in rows if row["class"] == "LVC"] for rows in (found.rows, evaluate_folders(*folders).rows)
    ]
    assert cavity[0] == cavity[1]
    assert evaluate_folders(*folders, Judging(leave_out=["1"])).classes == found.classes
    with pytest.raises(ValueError, match="--leave-out LA: .* RV, MLV, LVC"):
        evaluate_folders(*folders, Judging(leave_out=["LA"]))
    with pytest.raises(ValueError, match="--leave-out"):
        evaluate_folders(*folders, Judging(leave_out=["RV", "MLV", "LVC"]))


# --- patients and phases ---------------------------------------------------------------------------------------------


def patients_of(evaluation):
    return {row["case"]: (row["patient"], row["phase"]) for row in evaluation.rows}


def test_frames_of_one_patient_belong_together_by_their_names(folders, tmp_path):
    (tmp_path / "patients.csv").unlink()
    found = patients_of(evaluate_folders(*folders))
    assert found["patient002_frame09"] == ("patient002", "")


def test_a_pattern_or_a_table_says_who_is_whose(folders, tmp_path):
    table = tmp_path / "whose.csv"
    names = sorted(path.name.removesuffix(".nii.gz") for path in folders[0].iterdir())
    table.write_text(
        "case,patient,phase\n"
        + "".join(f"{name},{name[7:10]},{'ed' if 'frame01' in name else 'ES'}\n" for name in names)
    )
    found = patients_of(evaluate_folders(*folders, Judging(patients=table)))
    assert found["patient001_frame01"] == ("001", "ED") and found["patient003_frame09"] == ("003", "ES")
    found = patients_of(evaluate_folders(*folders, Judging(pattern=r"patient0(?P<patient>\d\d).*")))
    assert found["patient003_frame09"] == ("03", "")


def test_acdcs_own_folder_says_the_phase(folders, tmp_path):
    for number, (ed, es) in {1: (1, 9), 2: (9, 1), 3: (1, 9)}.items():
        folder = tmp_path / "acdc" / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text(f"ED: {ed}\nES: {es}\n")
    found = patients_of(evaluate_folders(*folders, Judging(patients=tmp_path / "acdc")))
    assert found["patient002_frame09"] == ("patient002", "ED") and found["patient001_frame09"] == ("patient001", "ES")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("case,patient\npatient001_frame01,1\n", "bad.csv: .* patient001_frame09, patient002_frame01"),
        ("name,who\n", "bad.csv: .* case,patient"),
        (
            "case,patient,phase\npatient001_frame01,1,mid\n",
            "bad.csv: .* patient001_frame01: .* got mid",
        ),
        ("case,patient\nx,1\nx,2\n", "bad.csv: .* case x"),
        ("", "bad.csv: .* case,patient"),
    ],
)
def test_a_bad_table_is_an_error(folders, tmp_path, table, message):
    (tmp_path / "bad.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        evaluate_folders(*folders, Judging(patients=tmp_path / "bad.csv"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<patient>", r"--pattern \(\?P<patient>: .* regular expression"),
        (r"\w+", r"--pattern .* group \(\?P<patient>"),
        (r"p(?P<patient>\d)", "--pattern .* patient001_frame01"),
        (r"(?P<patient>x)?.*", "--pattern .* patient001_frame01"),
        (r"(?P<patient>.+)_(?P<phase>frame)\d+", "--pattern .* ED, ES .* got FRAME"),
    ],
)
def test_a_bad_pattern_is_an_error(folders, pattern, message):
    with pytest.raises(ValueError, match=message):
        evaluate_folders(*folders, Judging(pattern=pattern))


def test_cases_whose_patients_nothing_says_are_counted_and_said(folders, tmp_path, capsys):
    (tmp_path / "patients.csv").unlink()
    for folder in folders:
        (folder / "patient001_frame01.nii.gz").rename(folder / "liver_7.nii.gz")
    assert main(["evaluate", *map(str, folders), "-o", str(tmp_path / "out")]) == 0
    assert "Whose 1 of them are is not known" in capsys.readouterr().out
    assert read_evaluation(tmp_path / "out").unknown_patients == 1


def test_two_cases_of_a_phase_are_refused_before_anything_is_judged(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("nnunet_shapekd.evaluation.evaluate.judge", None)
    table = tmp_path / "whose.csv"
    names = sorted(path.name.removesuffix(".nii.gz") for path in folders[0].iterdir())
    table.write_text("case,patient,phase\n" + "".join(f"{name},{name[7:10]},ED\n" for name in names))
    with pytest.raises(ValueError, match="Patient 001 has two ED cases"):
        evaluate_folders(*folders, Judging(patients=table))


def test_names_of_the_same_letters_belong_together_however_they_are_composed(tmp_path):
    dataset_json(tmp_path)
    save(heart(0), tmp_path / "labelsTr" / "Ren\u00e9.nii.gz")
    save(heart(1), tmp_path / "predictions" / "Rene\u0301.nii.gz")
    found = evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")
    assert {row["case"] for row in found.rows} == {"Ren\u00e9"}
    save(heart(1), tmp_path / "predictions" / "Ren\u00e9.nii.gz")
    with pytest.raises(ValueError, match="another file of this name"):
        evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")


# --- what is wrong is listed, and nothing written --------------------------------------------------------------------


def test_everything_wrong_is_listed_together_with_exit_code_1_and_nothing_is_written(folders, tmp_path, capsys):
    reference, prediction = folders
    names = sorted(path.name for path in reference.iterdir())
    (prediction / names[0]).unlink()
    save(heart(0), prediction / "extra.nii.gz")
    save(heart(1)[:5], prediction / names[1])
    save(heart(1), prediction / names[2], spacing=(10.0, 1.5, 1.6))
    save(heart(1), prediction / names[3], direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    save(heart(1) + 3, prediction / names[4])
    save(heart(1).astype(np.float32) / 2, prediction / names[5])
    assert main(["evaluate", str(reference), str(prediction), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "7 problems found, nothing was written" in error
    for expected in (
        f"{names[0]}: is missing",
        "extra.nii.gz: has no reference in",
        f"{names[1]}: shape (5, 48, 48) differs from the reference's (6, 48, 48)",
        f"{names[2]}: spacing (10, 1.5, 1.6) differs from the reference's (10, 1.5, 1.5)",
        f"{names[3]}: orientation (-1, 0, 0, 0, -1, 0, 0, 0, 1) differs",
        f"{names[4]}: unknown label values 4, 5, 6; known are 0, 1, 2, 3",
        f"{names[5]}: expected integer labels, got NaN, infinite or fractional values",
    ):
        assert expected in error
    assert not (tmp_path / "out").exists()


def test_references_without_a_prediction_are_left_out_only_if_asked(folders):
    (folders[1] / "patient001_frame01.nii.gz").unlink()
    with pytest.raises(ValueError, match="predictions.patient001_frame01.nii.gz"):
        evaluate_folders(*folders)
    assert len(evaluate_folders(*folders, Judging(chill=True)).rows) == 5 * 3
    for path in folders[1].iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(ValueError, match="xpatient001_frame09.nii.gz"):
        evaluate_folders(*folders, Judging(chill=True))


def test_files_that_are_no_label_maps_do_not_count(folders):
    (folders[1] / "summary.json").write_text("{}")  # nnU-Net's own, in a validation folder
    (folders[1] / "patient001_frame01.npz").touch()
    (folders[1] / "._patient001_frame01.nii.gz").touch()
    assert len(evaluate_folders(*folders).rows) == 18


@pytest.mark.parametrize("which", ["labelsTr", "predictions"])
def test_missing_and_empty_folders_are_errors(folders, tmp_path, which):
    target = tmp_path / which
    target.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=f"{which}: "):
        evaluate_folders(*folders)
    target.mkdir()
    with pytest.raises(FileNotFoundError, match=rf"{which}: .* \.nii\.gz"):
        evaluate_folders(*folders)


def test_truncated_and_foreign_files_are_errors(folders):
    path = folders[1] / "patient001_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"frame01.nii.gz: .* read"):
        evaluate_folders(*folders)
    path.write_text("text")
    with pytest.raises(ValueError, match=r"frame01.nii.gz: .* read"):
        evaluate_folders(*folders)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_nan_and_fractions_are_errors(tmp_path, value, ending):
    prediction = heart(1).astype(np.float32)
    prediction[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"predictions.case.*NaN"):
        pair(tmp_path, heart(0), prediction, ending=ending)


def test_colour_masks_and_truncated_png_files_are_errors(tmp_path):
    labels, values = {"background": 0, "polyp": 1}, np.zeros((32, 32), dtype=np.uint8)
    values[8:20, 8:20] = 1
    pair(tmp_path, values, values, labels, ".png", spacing=None)
    path = tmp_path / "predictions" / "case.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"case.png: .* read"):
        evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([values] * 3, -1), isVector=True), str(path))
    with pytest.raises(ValueError, match=r"case.png: .* got 3"):
        evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -1.0}, "--tolerance: .* got -1.0"),
        ({"tolerance": math.nan}, "--tolerance"),
        ({"processes": 0}, "-np: .* got 0"),
        ({"labels": [0, 1]}, "-l: .* 1 to 65535, got 0 1"),
        ({"labels": [1], "dataset_json": "dataset.json"}, "-l and -djfile"),
        ({"ignore_label": 2}, "-il .* -l"),
        ({"labels": [1, 2], "ignore_label": 2}, "-il: .* -l, got 2"),
        ({"labels": [1, 2, 3], "ignore_label": 0}, "-il: .* 1 to 65535"),
        ({"labels": [1, 10**14]}, "-l: .* 1 to 65535"),
        ({"patients": "a.csv", "pattern": "b"}, "--patients and --pattern"),
    ],
)
def test_bad_arguments_are_errors(folders, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_folders(*folders, Judging(**arguments))


@pytest.mark.parametrize(
    "content", ["[]", "{}", "{", '{"labels": {"background": 0}}', '{"labels": {"background": 0, "a": "x"}}']
)
def test_a_bad_dataset_json_is_an_error(folders, tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset.json"):
        evaluate_folders(*folders)


def test_predictions_are_never_replaced_by_their_evaluation(folders):
    (folders[1] / "summary.json").write_text("{}")  # nnU-Net's own
    files = sorted(folders[1].iterdir())
    assert main(["evaluate", *map(str, folders), "-o", str(folders[1])]) == 1
    assert sorted(folders[1].iterdir()) == files


def test_a_table_beside_the_references_that_says_something_else_is_not_used(folders, tmp_path, capsys):
    (tmp_path / "patients.csv").write_text("id,age\n1,70\n")
    assert patients_of(evaluate_folders(*folders))["patient002_frame09"] == ("patient002", "")
    assert "Not used for patients and phases" in capsys.readouterr().err


def test_masks_of_one_bit_are_read_as_nnunet_reads_them(tmp_path):
    labels, values = {"background": 0, "polyp": 1}, np.zeros((32, 32), dtype=np.uint8)
    values[8:20, 8:20] = 1
    pair(tmp_path, values, values, labels, ".png", spacing=None)
    Image.fromarray(values.astype(bool)).save(tmp_path / "predictions" / "case.png")
    assert evaluate_folders(tmp_path / "labelsTr", tmp_path / "predictions").rows[0]["dice"] == 1


def test_volumes_in_tiff_are_measured_in_the_spacing_beside_them_or_in_voxels(tmp_path):
    write_tiff = {"reference": heart(0), "prediction": heart(1)}
    for folder, values in zip(("labelsTr", "predictions"), write_tiff.values(), strict=True):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "case.tif", values, compression="zlib")
        (tmp_path / folder / "case.json").write_text(json.dumps({"spacing": SPACING}))
    dataset_json(tmp_path, file_ending=".tif")
    folders = tmp_path / "labelsTr", tmp_path / "predictions"
    found = evaluate_folders(*folders)
    assert repr(found.rows) == repr(pair(tmp_path / "nifti", heart(0), heart(1)).rows)
    for folder in folders:
        (folder / "case.json").unlink()
    found = evaluate_folders(*folders)
    assert (found.distance_unit, found.size_unit) == ("px", "px")
    assert of(found, "RV")["reference_size"] == np.count_nonzero(heart(0) == 1)


def test_output_to_a_narrow_encoding_is_no_error(folders, tmp_path):
    command = [
        sys.executable,
        "-m",
        "nnunet_shapekd.commands.cli",
        "evaluate",
        *map(str, folders),
        "-o",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and "Mean ? standard deviation" in done.stdout


def test_a_folder_with_other_things_in_it_is_refused_before_the_work(folders, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    (folders[1] / "patient001_frame01.nii.gz").unlink()
    assert main(["evaluate", *map(str, folders), "-o", str(tmp_path / "out")]) == 1
    assert "left as it is" in capsys.readouterr().err


def test_what_is_no_evaluation_is_not_read_as_one(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="summary.json .* `shapekd evaluate`"):
        read_evaluation(tmp_path)
    write_evaluation(evaluate_folders(*folders), tmp_path / "out")
    metrics = (tmp_path / "out" / "metrics.csv").read_text()
    (tmp_path / "out" / "metrics.csv").write_text(metrics[: metrics.rindex("\n", 0, -1) + 1])
    with pytest.raises(ValueError, match="metrics.csv .* `shapekd evaluate`"):
        read_evaluation(tmp_path / "out")
    (tmp_path / "out" / "summary.json").write_text('{"mean": {}}')
    with pytest.raises(ValueError, match="nnU-Net's own summary.json"):
        read_evaluation(tmp_path / "out")


def test_labels_are_read_as_nnunet_reads_them():
    labels = labels_of_dataset({"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}})
    assert labels.classes == {"whole": (1, 2), "core": (2,)} and labels.ignore == 3
    assert labels.values == {0, 1, 2, 3}


def test_evaluating_imports_no_torch(folders, tmp_path):
    code = (
        "import sys\nfrom nnunet_shapekd.commands.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "assert not {'torch', 'nnunetv2', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "evaluate", *map(str, folders), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
