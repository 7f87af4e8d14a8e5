"""The presets of further public image sets, on tiny replicas with each set's quirks; and what their layouts needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversions import dataset_in, raw_folder, refused, rows_in, splits_in  # noqa: F401 (fixtures)
from PIL import Image
from test_convert_presets import CUP, DISC, convert, label_of, mask, names, photo

from nnunet_shapekd.dataset_conversion.images import ImageOptions, convert_images

FIVE = ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")


def make_bundle(root: Path) -> Path:
    for name in ("cju1", "cju2", "1", "25", "26"):
        photo(root / f"TrainDataset/image/{name}.png")
        mask(root / f"TrainDataset/masks/{name}.png")
    for folder in FIVE:
        for name in ("7", "8"):  # the same names in each of the five
            photo(root / f"TestDataset/{folder}/images/{name}.png")
            mask(root / f"TestDataset/{folder}/masks/{name}.png")
    return root


def test_the_polyp_bundle_keeps_its_five_test_sets_apart_and_clinicdbs_sequences_together(
    tmp_path: Path, raw: Path
) -> None:
    folder = convert(make_bundle(tmp_path), "polyp-bundle", folds=4)
    assert names(folder, "labelsTr") == ["1", "25", "26", "cju1", "cju2"]
    assert names(folder, "labelsTs") == sorted(f"{of}_{name}" for of in FIVE for name in ("7", "8"))
    rows = {row["case"]: row for row in rows_in(folder)}
    assert rows["Kvasir_7"]["stratum"] == "kvasir" and rows["CVC-300_7"]["stratum"] == "cvc-300"
    assert rows["1"]["patient"] == rows["25"]["patient"] == "sequence01" != rows["26"]["patient"]
    assert all(("1" in split["val"]) == ("25" in split["val"]) for split in splits_in(folder))


def test_a_preset_does_not_merge_several_sets_below_root(tmp_path: Path, raw: Path) -> None:
    make_bundle(tmp_path)
    (problem,) = refused(raw, convert, tmp_path, "kvasir")
    assert "5 places" in problem and "polyp-bundle" in problem
    assert all(str(tmp_path / f"TestDataset/{of}") in problem for of in FIVE)
    assert names(convert(tmp_path / "TestDataset/Kvasir", "kvasir"), "labelsTr") == ["7", "8"]


def test_a_bundle_without_training_images_is_refused(tmp_path: Path, raw: Path) -> None:
    photo(tmp_path / "TestDataset/Kvasir/images/1.png")
    mask(tmp_path / "TestDataset/Kvasir/masks/1.png")
    (problem,) = refused(raw, convert, tmp_path, "polyp-bundle")
    assert "nothing to train on" in problem


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("bbdd/{}.bmp", "gtpolyp/p{}.bmp"),
        ("CVC-ColonDB/CVC-ColonDB/{}.tiff", "CVC-ColonDB/CVC-ColonDB/p{}.tiff"),
    ],
)
def test_three_layouts_of_colondb(image: str, label: str, tmp_path: Path, raw: Path) -> None:
    for name in (1, 12):
        photo(tmp_path / image.format(name))
        expected = mask(tmp_path / label.format(name))
    folder = convert(tmp_path, "cvc-colondb")
    assert names(folder, "labelsTr") == ["1", "12"]
    assert np.array_equal(label_of(folder, "12"), expected // 255)


def test_stus_images_and_masks_lie_in_one_folder_under_different_names(tmp_path: Path, raw: Path) -> None:
    for name in (1, 2):
        photo(tmp_path / f"Hospital/Test_Image_{name}.png")
        expected = mask(tmp_path / f"Hospital/mask_{name}.png")
    folder = convert(tmp_path, "stu")
    assert names(folder, "imagesTr") == ["1_0000", "2_0000"]
    assert Image.open(folder / "imagesTr/1_0000.png").mode == "L"
    assert np.array_equal(label_of(folder, "2"), expected // 255)


def test_a_pattern_of_ones_own_says_which_files_are_images(tmp_path: Path, raw: Path) -> None:
    for name in (1, 2):
        photo(tmp_path / f"Test_Image_{name}.png")
        mask(tmp_path / f"mask_{name}.png")
    (tmp_path / "readme.png").write_bytes(b"no picture")
    common = {"masks": tmp_path, "labels": ["lesion:255"], "dataset_id": 9, "name": "Own", "folds": 2, "processes": 1}
    given = {"image_pattern": r"Test_Image_(?P<case>\d+)", "mask_pattern": r"mask_(?P<case>\d+)"}
    folder = convert_images(tmp_path, ImageOptions(**common, **given))
    assert names(folder, "labelsTr") == ["1", "2"]
    for wrong, words in ((r"Image_\d+", "has no group"), (r"(?P<case>x)", "matches none"), ("(", "no regular")):
        other = ImageOptions(**{**common, **given, "image_pattern": wrong, "dataset_id": 10})
        with pytest.raises(ValueError, match=words):
            convert_images(tmp_path, other)
    assert [path.name for path in raw.iterdir()] == ["Dataset009_Own"]


def test_udiats_original_and_gt(tmp_path: Path, raw: Path) -> None:
    for name in ("000001", "000002"):
        photo(tmp_path / f"BUS/original/{name}.png")
        mask(tmp_path / f"BUS/GT/{name}.png")
    assert names(convert(tmp_path, "udiat"), "labelsTr") == ["000001", "000002"]


def make_smdg(root: Path) -> Path:
    for name in ("REFUGE1-train-1", "REFUGE1-train-2", "ORIGA-001", "EyePACS-5", "BEH-7"):
        photo(root / f"full-fundus/full-fundus/{name}.png")
        if not name.startswith("EyePACS"):
            mask(root / f"optic-disc/optic-disc/{name}.png", DISC)
        if not name.startswith(("EyePACS", "BEH")):
            mask(root / f"optic-cup/optic-cup/{name}.png", CUP)
    return root


def test_smdgs_images_without_both_masks_are_left_out_and_counted(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = convert(make_smdg(tmp_path), "smdg")
    assert names(folder, "labelsTr") == ["ORIGA-001", "REFUGE1-train-1", "REFUGE1-train-2"]
    assert dataset_in(folder)["labels"] == {"background": 0, "disc": [1, 2], "cup": 2}
    assert {row["stratum"] for row in rows_in(folder)} == {"origa", "refuge1-train"}
    assert "2 images without a mask were left out" in capsys.readouterr().out


def test_smdg_complete_is_refused_naming_the_option_where_it_is_asked_for(tmp_path: Path, raw: Path) -> None:
    problems = refused(raw, convert, make_smdg(tmp_path), "smdg", unmasked="refuse")
    assert len(problems) == 2 and any("--unmasked leave-out" in problem for problem in problems)
    assert any("BEH-7.png: no mask of cup" in problem for problem in problems)


@pytest.mark.parametrize("ending", ["bmp", "png"])
def test_refuge2s_bundle(ending: str, tmp_path: Path, raw: Path) -> None:
    values = np.full((6, 8), 255, np.uint8)
    values[1:5, 1:7] = 128
    values[2:4, 3:5] = 0
    for part, cases in (("train", ("g0001", "n0001", "n0002")), ("val", ("V0001",)), ("test", ("T0001",))):
        for case in cases:
            photo(tmp_path / f"REFUGE2/{part}/images/{case}.jpg")
            (tmp_path / f"REFUGE2/{part}/mask").mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / f"REFUGE2/{part}/mask/{case}.{ending}")
    folder = convert(tmp_path, "refuge2")
    assert names(folder, "labelsTr") == ["g0001", "n0001", "n0002"] and names(folder, "labelsTs") == ["T0001", "V0001"]
    assert np.array_equal(label_of(folder, "g0001"), np.select([values == 0, values == 128], [2, 1], 0))
    assert {row["stratum"] for row in rows_in(folder)} == {"g", "n", ""}
