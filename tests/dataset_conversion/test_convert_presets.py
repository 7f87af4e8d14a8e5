"""The presets of public image sets, on tiny downloads in each set's own layout."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    dataset_in,
    raw_folder,
    refused,
    rows_in,
    splits_in,
)
from PIL import Image

from nnunet_shapekd.dataset_conversion import presets
from nnunet_shapekd.dataset_conversion.images import ImageOptions, convert_images
from nnunet_shapekd.dataset_conversion.target import ConversionError

DISC, CUP = (1, 1, 7, 5), (3, 2, 5, 4)  # left, top, right, bottom


def photo(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    """Pixels that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(zlib.crc32(str(path).encode())).randint(0, 256, (size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def mask(
    path: Path, box: tuple[int, ...] | None = DISC, value: int = 255, size: tuple[int, int] = (8, 6), mode: str = "L"
) -> np.ndarray:
    values = np.zeros((size[1], size[0]), np.uint8)
    if box:
        values[box[1] : box[3], box[0] : box[2]] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).convert(mode).save(path)
    return values


def nested() -> np.ndarray:
    values = np.zeros((6, 8), np.uint8)
    values[1:5, 1:7] = 1
    values[2:4, 3:5] = 2
    return values


def convert(root: Path, preset: str, **options) -> Path:
    return convert_images(root, ImageOptions(preset=preset, dataset_id=9, **{"processes": 1, "folds": 2, **options}))


def names(folder: Path, of: str) -> list[str]:
    return sorted(path.stem for path in (folder / of).iterdir())


def label_of(folder: Path, case: str, subset: str = "Tr") -> np.ndarray:
    return np.asarray(Image.open(folder / f"labels{subset}" / f"{case}.png"))


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    return {row["case"]: row for row in rows_in(folder)}


REGIONS = {"background": 0, "disc": [1, 2], "cup": 2}


# --- polyps ------------------------------------------------------------------------------------------------------


def test_kvasirs_jpg_masks_are_thresholded(tmp_path: Path, raw: Path) -> None:
    for name in ("cju1", "cju2"):
        photo(tmp_path / f"Kvasir-SEG/images/{name}.jpg", (32, 32))
        expected = mask(tmp_path / f"Kvasir-SEG/masks/{name}.jpg", (8, 8, 24, 24), size=(32, 32), mode="RGB")
    (tmp_path / "Kvasir-SEG/kavsir_bboxes.json").write_text("{}")
    folder = convert(tmp_path, "kvasir")
    assert folder.name == "Dataset009_kvasir" and names(folder, "labelsTr") == ["cju1", "cju2"]
    assert np.array_equal(label_of(folder, "cju1"), expected // 255)


def test_clinicdbs_sequences_stay_together(tmp_path: Path, raw: Path) -> None:
    for frame in (1, 25, 26, 50, 612):
        photo(tmp_path / f"TIF/Original/{frame}.tif")
        mask(tmp_path / f"TIF/Ground Truth/{frame}.tif")
        photo(tmp_path / f"PNG/Original/{frame}.png")  # the same in another format, as one public copy has it
        mask(tmp_path / f"PNG/Ground Truth/{frame}.png")
    folder = convert(tmp_path, "cvc-clinicdb", folds=3)
    assert {case: row["patient"] for case, row in rows_of(folder).items()} == {
        "1": "sequence01", "25": "sequence01", "26": "sequence02", "50": "sequence02", "612": "sequence29",
    }  # fmt: skip
    for split in splits_in(folder):
        assert ("1" in split["val"]) == ("25" in split["val"]) and ("26" in split["val"]) == ("50" in split["val"])


def test_clinicdb_has_29_sequences_whose_borders_hold_endoscenes_patient_split() -> None:
    sizes = Counter(presets.clinicdb_sequence(str(frame)) for frame in range(1, 613))
    assert len(sizes) == 29 and sum(sizes.values()) == 612 and min(sizes.values()) == 6
    assert {last for last, _ in presets.ENDOSCENE_PARTS["CVC-612"]} <= set(presets.CLINICDB_ENDS)
    with pytest.raises(ValueError, match="613: .*CVC-ClinicDB, 1 to 612"):
        presets.clinicdb_sequence("613")


def test_a_frame_that_clinicdb_does_not_have_is_a_problem(tmp_path: Path, raw: Path) -> None:
    for frame in (1, 700):
        photo(tmp_path / f"Original/{frame}.tif")
        mask(tmp_path / f"Ground Truth/{frame}.tif")
    with pytest.raises(ConversionError, match="700.tif: 700: "):
        convert(tmp_path, "cvc-clinicdb")


@pytest.mark.parametrize(
    ("image", "label"),
    [("ETIS-LaribPolypDB/{}.tif", "Ground Truth/p{}.tif"), ("images/{}.png", "masks/{}.png")],
)
def test_both_layouts_of_etis(
    image: str, label: str, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for frame in (1, 2):
        photo(tmp_path / "ETIS-LaribPolypDB" / image.format(frame))
        mask(tmp_path / "ETIS-LaribPolypDB" / label.format(frame))
    assert names(convert(tmp_path, "etis"), "labelsTr") == ["1", "2"]
    assert "do not believe a cross-validation on it" in capsys.readouterr().out


def test_endoscene_has_its_official_split(tmp_path: Path, raw: Path) -> None:
    for part, frames, ending in (("CVC-300", (1, 77, 149), "bmp"), ("CVC-612", (1, 26, 51), "tif")):
        for frame in frames:
            photo(tmp_path / f"{part}/bbdd/{frame}.bmp")
            mask(tmp_path / f"{part}/gtpolyp/{frame}.{ending}")
            mask(tmp_path / f"{part}/gtlumen/{frame}.bmp")
    folder = convert(tmp_path, "endoscene")
    (split,) = splits_in(folder)
    assert split == {"train": ["CVC-300_1", "CVC-612_26"], "val": ["CVC-300_77", "CVC-612_51"]}
    assert names(folder, "labelsTs") == ["CVC-300_149", "CVC-612_1"]


def test_a_frame_that_endoscene_does_not_have_is_a_problem(tmp_path: Path, raw: Path) -> None:
    for frame in (1, 77, 301):
        photo(tmp_path / f"CVC-300/bbdd/{frame}.bmp")
        mask(tmp_path / f"CVC-300/gtpolyp/{frame}.bmp")
    with pytest.raises(ConversionError, match="301.bmp: CVC-300/301: .*CVC-300"):
        convert(tmp_path, "endoscene")


def test_endoscenes_parts_have_the_published_sizes() -> None:
    cases = [f"CVC-300/{frame}" for frame in range(1, 301)] + [f"CVC-612/{frame}" for frame in range(1, 613)]
    assert Counter(map(presets.endoscene_part, cases)) == {"train": 547, "val": 183, "test": 182}
    with pytest.raises(ValueError, match="CVC-300, 1 to 300"):
        presets.endoscene_part("CVC-300/301")


# --- breast ultrasound -------------------------------------------------------------------------------------------


def make_busi(root: Path) -> None:
    for kind, count in (("benign", 4), ("malignant", 2), ("normal", 2)):
        for number in range(1, count + 1):
            stem = root / "Dataset_BUSI_with_GT" / kind / f"{kind} ({number})"
            photo(Path(f"{stem}.png"))
            mask(Path(f"{stem}_mask.png"), (1, 1, 3, 3) if kind != "normal" else None, mode="1")
    mask(root / "Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png", (5, 3, 7, 5), mode="RGBA")


def test_busi_merges_masks_and_leaves_normal_images_out(tmp_path: Path, raw: Path) -> None:
    make_busi(tmp_path)
    folder = convert(tmp_path, "busi")
    assert names(folder, "labelsTr") == ["benign_1", "benign_2", "benign_3", "benign_4", "malignant_1", "malignant_2"]
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:3] = expected[3:5, 5:7] = 1
    assert np.array_equal(label_of(folder, "benign_1"), expected)
    dataset = dataset_in(folder)
    assert dataset["channel_names"] == {"0": "grey"} and dataset["labels"] == {"background": 0, "tumour": 1}
    for split in splits_in(folder):
        assert sorted(name.split("_")[0] for name in split["val"]) == ["benign", "benign", "malignant"]


def test_busis_normal_images_can_be_kept(tmp_path: Path, raw: Path) -> None:
    make_busi(tmp_path)
    folder = convert(tmp_path, "busi", empty="keep", channels="rgb")
    assert not label_of(folder, "normal_1").any() and rows_of(folder)["normal_1"]["stratum"] == "normal"
    assert Image.open(folder / "imagesTr/normal_1_0000.png").mode == "RGB"


# --- optic disc and cup ------------------------------------------------------------------------------------------


def refuge_mask(path: Path, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([255, 128, 0], np.uint8)[nested()]).convert(mode).save(path)


def make_refuge(root: Path, training: str, training_gt: str) -> None:
    for kind, letter in (("Glaucoma", "g"), ("Non-Glaucoma", "n")):
        for number in (1, 2):
            photo(root / training / f"{kind}/{letter}000{number}.jpg")
            refuge_mask(root / training_gt / f"Disc_Cup_Masks/{kind}/{letter}000{number}.bmp", "RGB")
    photo(root / "REFUGE-Validation400/V0001.jpg")
    refuge_mask(root / "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp")
    photo(root / "Test400/T0001.jpg")
    refuge_mask(root / "REFUGE-Test-GT/Disc_Cup_Masks/G/T0001.bmp")


@pytest.mark.parametrize(
    ("training", "training_gt"),
    [
        ("Training400", "Annotation-Training400"),
        ("REFUGE-Training400/Training400", "Annotation-Training400/Annotation-Training400"),
    ],
)
def test_refuges_grey_levels_become_nested_regions(training: str, training_gt: str, tmp_path: Path, raw: Path) -> None:
    make_refuge(tmp_path, training, training_gt)
    folder = convert(tmp_path, "refuge")
    assert names(folder, "labelsTr") == ["g0001", "g0002", "n0001", "n0002"]
    assert names(folder, "labelsTs") == ["T0001", "V0001"]
    dataset = dataset_in(folder)
    assert dataset["labels"] == REGIONS and dataset["regions_class_order"] == [1, 2]
    assert np.array_equal(label_of(folder, "g0001"), nested())
    assert np.array_equal(label_of(folder, "T0001", "Ts"), nested())
    assert rows_of(folder)["n0002"]["stratum"] == "non-glaucoma"


def make_drishti(root: Path) -> None:
    for part, gt, number in (("Training", "GT", 2), ("Training", "GT", 4), ("Test", "Test_GT", 1)):
        name = f"drishtiGS_{number:03d}"
        photo(root / f"Drishti-GS1_files/{part}/Images/{name}.png")
        soft = root / f"Drishti-GS1_files/{part}/{gt}/{name}/SoftMap"
        mask(soft / f"{name}_ODsegSoftmap.png", DISC)
        mask(soft / f"{name}_cupsegSoftmap.png", CUP, value=127)
        (soft.parent / "AvgBoundary").mkdir()
        (soft.parent / "AvgBoundary" / f"{name}_ODAvgBoundary.txt").write_text("1 2\n")


def test_drishtis_soft_maps_count_where_half_of_the_experts_agree(tmp_path: Path, raw: Path) -> None:
    make_drishti(tmp_path)
    folder = convert(tmp_path, "drishti-gs")
    assert names(folder, "labelsTr") == ["drishtiGS_002", "drishtiGS_004"]
    assert names(folder, "labelsTs") == ["drishtiGS_001"]
    assert dataset_in(folder)["labels"] == REGIONS
    assert np.array_equal(label_of(folder, "drishtiGS_002"), nested())


def test_another_threshold_asks_for_more_of_drishtis_experts(tmp_path: Path, raw: Path) -> None:
    make_drishti(tmp_path)
    assert label_of(convert(tmp_path, "drishti-gs", threshold=190), "drishtiGS_002").max() == 1


@pytest.mark.parametrize("partitions", [["partitioned_by_hospital", "partitioned_randomly"], ["partitioned_randomly"]])
def test_rim_one_dl_comes_in_partitions_of_the_same_images(partitions: list[str], tmp_path: Path, raw: Path) -> None:
    segmentations = tmp_path / "RIM-ONE_DL_reference_segmentations"
    for part, kind, name in (
        ("training_set", "normal", "r1_Im001"),
        ("training_set", "glaucoma", "r2_Im002"),
        ("test_set", "normal", "r3_N-1-L"),
    ):
        for partition in partitions:
            photo(tmp_path / f"RIM-ONE_DL_images/{partition}/{part}/{kind}/{name}.png")
        mask(segmentations / kind / f"{name}-1-Disc-T.png", DISC)
        mask(segmentations / kind / f"{name}-1-Cup-T.png", CUP)
    folder = convert(tmp_path, "rim-one")
    assert names(folder, "labelsTr") == ["r1_Im001", "r2_Im002"] and names(folder, "labelsTs") == ["r3_N-1-L"]
    assert np.array_equal(label_of(folder, "r1_Im001"), nested())
    assert rows_of(folder)["r2_Im002"]["stratum"] == "glaucoma"


@pytest.mark.parametrize("mask_width", [8, 16])
def test_of_rim_one_r3_the_annotated_left_image_is_kept(mask_width: int, tmp_path: Path, raw: Path) -> None:
    for kind, name in (("Healthy", "N-1-L"), ("Glaucoma and suspects", "G-2-R")):
        photo(tmp_path / f"RIM-ONE r3/{kind}/Stereo Images/{name}.jpg", (16, 6))
        average = tmp_path / f"RIM-ONE r3/{kind}/Average_masks"
        mask(average / f"{name}-Disc-Avg.png", DISC, size=(mask_width, 6))
        mask(average / f"{name}-Cup-Avg.png", CUP, size=(mask_width, 6))
        mask(tmp_path / f"RIM-ONE r3/{kind}/Expert1_masks/{name}-1-Cup-exp1.png", DISC, size=(mask_width, 6))
    folder = convert(tmp_path, "rim-one")
    assert Image.open(folder / "imagesTr/N-1-L_0000.png").size == (8, 6)
    assert np.array_equal(label_of(folder, "G-2-R"), nested())


def test_both_eyes_of_a_number_of_rim_one_r3_stay_together(tmp_path: Path, raw: Path) -> None:
    for name in ("N-1-L", "n-1-R", "N-2-L", "N-3-R", "N-11-L"):
        photo(tmp_path / f"Healthy/Stereo Images/{name}.jpg", (16, 6))
        mask(tmp_path / f"Healthy/Average_masks/{name}-Disc-Avg.png", DISC)
        mask(tmp_path / f"Healthy/Average_masks/{name}-Cup-Avg.png", CUP)
    folder = convert(tmp_path, "rim-one", folds=4)
    whose = {case: row["patient"] for case, row in rows_of(folder).items()}
    assert whose == {"N-1-L": "N-1", "n-1-R": "N-1", "N-2-L": "N-2", "N-3-R": "N-3", "N-11-L": "N-11"}
    for split in splits_in(folder):
        assert {"N-1-L", "n-1-R"} <= set(split["train"]) or {"N-1-L", "n-1-R"} == set(split["val"])


def test_images_of_rim_one_dl_are_each_a_group_of_their_own() -> None:
    for case in ("r1_Im001", "r3_N-1-L", "r3_N-1-R", "r2_Im402-ACV"):
        assert presets.rim_one_number(case) == case


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_another_layout_is_refused_with_what_was_expected_and_found(preset: str, tmp_path: Path, raw: Path) -> None:
    photo(tmp_path / "root/somewhere/else.png")
    (problem,) = refused(raw, convert, tmp_path / "root", preset)
    assert presets.PRESETS[preset].expected in problem and "found somewhere" in problem


def test_an_incomplete_download_is_named(tmp_path: Path, raw: Path) -> None:
    make_drishti(tmp_path)
    gt = tmp_path / "Drishti-GS1_files/Training/GT"
    (gt / "drishtiGS_002/SoftMap/drishtiGS_002_cupsegSoftmap.png").unlink()
    (tmp_path / "Drishti-GS1_files/Training/Images/drishtiGS_004.png").unlink()
    problems = refused(raw, convert, tmp_path, "drishti-gs")
    assert len(problems) == 3 and "drishtiGS_002.png: no mask of cup" in problems[0]
    assert all("mask without an image" in problem for problem in problems[1:])


def test_what_is_given_overrides_a_preset(tmp_path: Path, raw: Path) -> None:
    for name in ("a_1", "a_2", "b_1"):
        photo(tmp_path / f"images/{name}.jpg")
        mask(tmp_path / f"masks/{name}.png")
    folder = convert(tmp_path, "kvasir", name="Mine", group="^[ab]", labels=("lesion:255",))
    assert folder.name == "Dataset009_Mine" and rows_of(folder)["a_2"]["patient"] == "a"
    assert dataset_in(folder)["labels"] == {"background": 0, "lesion": 1}
