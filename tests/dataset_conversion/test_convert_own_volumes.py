"""The conversion of a user's own folders of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    dataset_in,
    raw_folder,
    refused,
    rows_in,
    shapekd_convert,
    splits_in,
    voxels,
    write_case,
    write_volume,
)

from nnunet_shapekd.dataset_conversion.own_volumes import OwnOptions, convert_own_volumes

VALUES = np.array([0, 200, 500, 600])
LABELS = "RV:600,MLV:200,LVC:500"


def make(root: Path, image: str = "images/{}.nii.gz", label: str = "labels/{}.nii.gz", n: int = 6) -> Path:
    for number in range(1, n + 1):
        write_case(root / image.format(f"P{number}"), root / label.format(f"P{number}"), VALUES)
    return root


def convert(root: Path, images: str = "images", labels_folder: str | None = "labels", **options) -> Path:
    common = {"dataset_id": 9, "name": "Own", "labels": LABELS, "processes": 1}
    return convert_own_volumes(root / images, OwnOptions(labels_folder=root / labels_folder, **{**common, **options}))


def cases(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir())


def test_classes_are_named_in_the_map_and_folds_are_made(tmp_path: Path, raw: Path) -> None:
    folder = convert(make(tmp_path))
    assert folder == raw / "Dataset009_Own"
    assert dataset_in(folder)["labels"] == {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    old, new = voxels(tmp_path / "labels/P2.nii.gz"), voxels(folder / "labelsTr/P2.nii.gz")
    assert all(np.array_equal(old == before, new == after) for before, after in ((600, 1), (200, 2), (500, 3)))
    assert len(splits_in(folder)) == 5 and cases(folder / "labelsTr") == [f"P{n}" for n in range(1, 7)]


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ("600:1,200:2,500:2", "RV,LV", {"background": 0, "RV": 1, "LV": 2}),
        ("RV:600,LV:200,LV:500", None, {"background": 0, "RV": 1, "LV": 2}),
        ("500:1,200:0,600:0", "LV", {"background": 0, "LV": 1}),
    ],
)
def test_a_map_merges_and_drops(labels: str, names: str | None, expected: dict, tmp_path: Path, raw: Path) -> None:
    assert dataset_in(convert(make(tmp_path), labels=labels, names=names))["labels"] == expected


@pytest.mark.parametrize("labels", ["RV", "RV:x", "RV:600,600:2", "RV:600,LV:600", "background:600", "RV:99999"])
def test_a_map_of_another_form_is_refused(labels: str, tmp_path: Path, raw: Path) -> None:
    with pytest.raises(ValueError, match="--labels|--names"):
        convert(make(tmp_path), labels=labels)
    assert not raw.exists()


@pytest.mark.parametrize(
    ("image", "label", "folders", "patterns"),
    [
        ("raw/{}_0000.nii.gz", "gt/{}.nii.gz", ("raw", "gt"), {}),
        ("all/{}.nii.gz", "all/{}_seg.nii.gz", ("all", "all"), {"label_pattern": r"(?P<case>.+)_seg"}),
        ("{}/image.nii.gz", "{}/label.nii", (".", "."),
         {"image_pattern": "(?P<case>.+)/image", "label_pattern": "(?P<case>.+)/label"}),
        ("set/img-{}.nii", "set/truth/lab-{}.nii.gz", ("set", "set/truth"),
         {"image_pattern": "img-(?P<case>.+)", "label_pattern": "lab-(?P<case>.+)"}),
    ],
)  # fmt: skip
def test_names_of_any_kind(image: str, label: str, folders: tuple, patterns: dict, tmp_path: Path, raw: Path) -> None:
    folder = convert(make(tmp_path, image, label), *folders, **patterns)
    assert cases(folder / "labelsTr") == [f"P{n}" for n in range(1, 7)]


def test_names_that_do_not_fit_are_shown_with_the_option_that_helps(tmp_path: Path, raw: Path) -> None:
    (problem,) = refused(raw, convert, make(tmp_path, label="labels/{}_seg.nii.gz"))
    assert "P1.nii.gz" in problem and "P1_seg.nii.gz" in problem and "--label-pattern" in problem
    (problem,) = refused(raw, convert, make(tmp_path / "one", label="images/{}_seg.nii.gz"), labels_folder="images")
    assert "lie in one folder" in problem and "--label-pattern" in problem


def test_a_folder_of_test_cases_with_and_without_labels(tmp_path: Path, raw: Path) -> None:
    make(tmp_path)
    for n in (7, 8):
        write_case(tmp_path / f"new/P{n}.nii.gz", tmp_path / f"newlabels/P{n}.nii.gz", VALUES)
    folder = convert(tmp_path, test=[tmp_path / "new", tmp_path / "newlabels"])
    assert cases(folder / "labelsTs") == ["P7", "P8"] and rows_in(folder)[-1]["subset"] == "test"
    folder = convert(tmp_path, test=[tmp_path / "new"], dataset_id=10)
    assert cases(folder / "imagesTs") == ["P7_0000", "P8_0000"] and not (folder / "labelsTs").exists()


def test_a_list_of_test_patients(tmp_path: Path, raw: Path) -> None:
    make(tmp_path, n=7)
    (tmp_path / "test.json").write_text('["P2"]')
    folder = convert(tmp_path, test=[tmp_path / "test.json"])
    assert cases(folder / "labelsTs") == ["P2"]
    (tmp_path / "test.json").write_text('["P2", "P99"]')
    problems = refused(
        tmp_path / "none", convert, tmp_path, test=[tmp_path / "test.json"], raw_folder=tmp_path / "none"
    )
    assert_listed(problems, ["no case or patient is called P99"])


def test_a_table_says_patients_subsets_and_what_else_is_known(tmp_path: Path, raw: Path) -> None:
    make(tmp_path, n=8)
    rows = [f"P{n},{'anna' if n < 3 else f'p{n}'},{subset},{'GE' if n % 2 else 'Philips'}"
            for n, subset in enumerate(("train", "train", "train", "val", "test", "", "train", "val"), 1)]  # fmt: skip
    (tmp_path / "table.csv").write_text("\n".join(["case,patient,subset,vendor", *rows, ",,,", ",,,"]))
    folder = convert(tmp_path, table=tmp_path / "table.csv", stratify="vendor")
    (split,) = splits_in(folder)
    assert split == {"train": ["P1", "P2", "P3", "P6", "P7"], "val": ["P4", "P8"]}
    assert cases(folder / "labelsTs") == ["P5"]
    row = next(row for row in rows_in(folder) if row["case"] == "P2")
    assert row == {"case": "P2", "patient": "anna", "subset": "train", "vendor": "Philips"}


def test_cases_of_one_patient_stay_in_one_fold(tmp_path: Path, raw: Path) -> None:
    for patient in range(1, 7):
        for phase in ("ED", "ES"):
            stem = f"heart{patient}_{phase}.nii.gz"
            write_case(tmp_path / "images" / stem, tmp_path / "labels" / stem, VALUES)
    for options in ({}, {"group": r"heart(\d)", "dataset_id": 10}):
        for split in splits_in(convert(tmp_path, **options)):
            assert not {case[:6] for case in split["train"]} & {case[:6] for case in split["val"]}


@pytest.mark.parametrize(("lowest", "channel"), [(-1000, "CT"), (0, "MRI")])
def test_the_channel_is_told_by_the_values_and_said(
    lowest: int, channel: str, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    for path in (tmp_path / "images").iterdir():
        write_volume(path, (voxels(path) + lowest).astype(np.int16))
    assert dataset_in(convert(tmp_path))["channel_names"] == {"0": channel}
    assert f"The channel is called {channel}" in capsys.readouterr().out
    assert dataset_in(convert(tmp_path, channel="LGE", dataset_id=10))["channel_names"] == {"0": "LGE"}


def test_all_problems_are_listed_together(tmp_path: Path, raw: Path) -> None:
    make(tmp_path)
    (tmp_path / "images/P1.nii.gz").unlink()
    (tmp_path / "labels/P2.nii.gz").unlink()
    write_volume(tmp_path / "labels/P3.nii.gz", np.full((3, 8, 6), 9, np.int16))
    (tmp_path / "table.csv").write_text("case,subset\nP2,train\nP3,train\nP4,none\nP6,train\nP6,test\n")
    expected = [
        "P1.nii.gz: label without an image",
        "P2.nii.gz: training image without a label",
        "P3.nii.gz: unknown label value 9",
        "subset of P4: expected train, val or test, got 'none'",
        "has no row of P5",
        "two different rows of P6",
    ]
    problems = refused(raw, convert, tmp_path, table=tmp_path / "table.csv", exclude=["P7"])
    assert_listed(problems, [*expected, "--exclude P7: no such case"])


def test_the_command_runs_and_imports_no_torch(tmp_path: Path, raw: Path) -> None:
    make(tmp_path)
    given = ("images", "labels", "-d", "9", "--name", "Own", "--labels", LABELS, "--processes", "1")
    done = shapekd_convert("volumes", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Next: nnUNetv2_plan_and_preprocess -d 9\n" in done.stdout
