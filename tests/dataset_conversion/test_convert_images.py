"""The conversion of folders of 2D images, on tiny pictures with every trouble such folders are known for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conversions import (  # noqa: F401 (fixtures)
    assert_listed,
    contents,
    dataset_in,
    disk_full,
    raw_folder,
    refused,
    rows_in,
    shapekd_convert,
    splits_in,
)
from PIL import Image

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.dataset_conversion import pictures, writing
from nnunet_shapekd.dataset_conversion.image_groups import by_regex
from nnunet_shapekd.dataset_conversion.image_labels import parse_labels
from nnunet_shapekd.dataset_conversion.images import ImageOptions, convert_images
from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.evaluation.evaluate import evaluate_folders

ORIENTATION = 0x0112


def photo(seed: int = 0, size: tuple[int, int] = (8, 6), channels: int = 3) -> np.ndarray:
    """Random uint8 pixels; size is (width, height)."""
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def square(value: int = 255, size: tuple[int, int] = (8, 6), start: int = 1) -> np.ndarray:
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[start : start + 3, start : start + 3] = value
    return mask


def save(path: Path, values: np.ndarray, mode: str | None = None, **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(path, **kwargs)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Six RGB images p1_a, p1_b, p2_a, ... and their 0/255 masks."""
    for number in range(6):
        name = f"p{number // 2 + 1}_{'ab'[number % 2]}.png"
        save(tmp_path / "images" / name, photo(number))
        save(tmp_path / "masks" / name, square())
    return tmp_path / "images", tmp_path / "masks"


def convert(folders: tuple[Path, Path], labels: tuple[str, ...] = ("polyp:255",), **options) -> Path:
    images, masks = folders
    defaults = {"dataset_id": 7, "name": "Test", "processes": 1, "masks": masks, "labels": labels}
    return convert_images(images, ImageOptions(**{**defaults, **options}))


def problems_of(
    folders: tuple[Path, Path], raw: Path, labels: tuple[str, ...] = ("polyp:255",), **options
) -> list[str]:
    return refused(raw, convert, folders, labels, **options)


def label_of(folder: Path, case: str = "p1_a", subset: str = "Tr") -> np.ndarray:
    mask = Image.open(folder / f"labels{subset}" / f"{case}.png")
    assert mask.mode == "L"
    return np.asarray(mask)


def image_of(folder: Path, case: str = "p1_a") -> np.ndarray:
    return np.asarray(Image.open(folder / "imagesTr" / f"{case}_0000.png"))


# --- what is written ---------------------------------------------------------------------------------------------


def test_the_dataset_is_what_nnunets_natural_image_reader_expects(folders: tuple[Path, Path], raw: Path) -> None:
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    folder = convert(folders)
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json", "imagesTr", "labelsTr", "patients.csv", "splits_final.json",
    ]  # fmt: skip
    dataset = dataset_in(folder)
    assert dataset["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert dataset["labels"] == {"background": 0, "polyp": 1} and "regions_class_order" not in dataset
    assert dataset["numTraining"] == 6 and dataset["file_ending"] == ".png"
    pixels, _ = NaturalImage2DIO().read_images([str(folder / "imagesTr/p1_a_0000.png")])
    assert np.array_equal(pixels[:, 0], photo(0).transpose(2, 0, 1))
    mask, _ = NaturalImage2DIO().read_seg(str(folder / "labelsTr/p1_a.png"))
    assert np.array_equal(mask[0, 0], square(1))


def test_a_png_that_fits_is_copied_byte_for_byte(folders: tuple[Path, Path], raw: Path) -> None:
    folder = convert(folders)
    assert (folder / "imagesTr/p2_a_0000.png").read_bytes() == (folders[0] / "p2_a.png").read_bytes()


@pytest.mark.parametrize("ending", [".PNG", ".jpg", ".JPEG", ".tif", ".TIFF", ".bmp"])
def test_all_endings_are_read_in_either_case(ending: str, folders: tuple[Path, Path], raw: Path) -> None:
    (folders[0] / "p1_a.png").unlink()
    path = save(folders[0] / f"p1_a{ending}", photo(0))
    assert np.array_equal(image_of(convert(folders)), np.asarray(Image.open(path)))


def test_grey_images_have_one_channel(folders: tuple[Path, Path], raw: Path) -> None:
    for number, path in enumerate(folders[0].iterdir()):
        save(path, photo(number, channels=1))
    folder = convert(folders)
    assert dataset_in(folder)["channel_names"] == {"0": "grey"}
    assert image_of(folder).ndim == 2


def test_mixed_channels_are_named_and_can_be_made_alike(folders: tuple[Path, Path], raw: Path) -> None:
    save(folders[0] / "p1_a.png", photo(1, channels=1))
    (problem,) = problems_of(folders, raw)
    assert "1 images are grey and 5 RGB" in problem and "p1_a.png" in problem and "--channels" in problem
    assert image_of(convert(folders, channels="grey"), "p2_a").ndim == 2
    assert image_of(convert(folders, channels="rgb", dataset_id=8)).shape == (6, 8, 3)


def test_alpha_is_dropped_from_images_and_masks(folders: tuple[Path, Path], raw: Path) -> None:
    alpha = np.full((6, 8, 1), 90, np.uint8)
    save(folders[0] / "p1_a.png", np.concatenate([photo(0), alpha], -1))
    save(folders[1] / "p1_a.png", np.concatenate([np.repeat(square()[..., None], 3, -1), alpha], -1))
    folder = convert(folders)
    assert np.array_equal(image_of(folder), photo(0)) and np.array_equal(label_of(folder), square(1))


def test_odd_names_become_plain_case_names(folders: tuple[Path, Path], raw: Path) -> None:
    for folder in folders:
        (folder / "p1_a.png").rename(folder / "benign (1).png")
    folder = convert(folders)
    assert (folder / "imagesTr/benign_1_0000.png").is_file() and (folder / "labelsTr/benign_1.png").is_file()


# --- masks -------------------------------------------------------------------------------------------------------


def test_class_indices_become_consecutive(folders: tuple[Path, Path], raw: Path) -> None:
    for path in folders[1].iterdir():
        save(path, np.maximum(square(3), square(7, start=3)))
    folder = convert(folders, ("liver:3", "kidney:7,8"))
    assert np.array_equal(label_of(folder), np.where(square(1, start=3) > 0, 2, square(1)))


def test_sixteen_bit_class_indices_and_one_bit_masks_are_read(folders: tuple[Path, Path], raw: Path) -> None:
    save(folders[1] / "p1_a.png", square().astype(np.uint16))
    save(folders[1] / "p1_b.png", square(), mode="1")
    folder = convert(folders)
    assert np.array_equal(label_of(folder), square(1)) and np.array_equal(label_of(folder, "p1_b"), square(1))


def test_colours_are_classes(folders: tuple[Path, Path], raw: Path) -> None:
    coloured = np.zeros((6, 8, 3), np.uint8)
    coloured[1:4, 1:4] = (255, 0, 0)
    coloured[4:, 5:] = (0, 255, 0)
    for path in folders[1].iterdir():
        save(path, coloured)
    save(folders[1] / "p1_b.png", coloured, mode="P")
    folder = convert(folders, ("disc:#ff0000", "vessel:#00FF00"))
    expected = square(1)
    expected[4:, 5:] = 2
    assert np.array_equal(label_of(folder), expected) and np.array_equal(label_of(folder, "p1_b"), expected)


def test_a_coloured_mask_without_colours_in_the_labels_is_refused(folders: tuple[Path, Path], raw: Path) -> None:
    save(folders[1] / "p1_a.png", np.stack([square(), square(0), square(0)], -1))
    for threshold in (None, 128):
        (problem,) = problems_of(folders, raw, threshold=threshold)
        assert "p1_a.png: is coloured" in problem and "polyp:#FF0000" in problem


def test_the_index_of_a_palette_is_the_class(folders: tuple[Path, Path], raw: Path) -> None:
    for path in folders[1].iterdir():
        mask = Image.fromarray(square(1)).convert("P")
        mask.putpalette([0, 0, 0, 128, 0, 0])
        mask.save(path)
    assert np.array_equal(label_of(convert(folders, ("polyp:1",))), square(1))


def test_lossy_masks_are_refused_without_a_threshold_and_counted_with_it(
    folders: tuple[Path, Path], raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[1] / "p1_a.png").unlink()
    soft = square()
    soft[1, 1], soft[5, 7] = 130, 126
    save(folders[1] / "p1_a.tif", soft)
    save(folders[1] / "p1_b.png", square()).unlink()
    save(folders[1] / "p1_b.jpg", np.stack([square(255, start=0)] * 3, -1), quality=60)
    problems = problems_of(folders, raw)
    assert len(problems) == 2 and all("known are 0, 255;" in problem for problem in problems)
    assert "p1_b.jpg" in problems[1] and "--threshold 128" in problems[1]
    folder = convert(folders, threshold=128)
    assert np.array_equal(label_of(folder), square(1)) and np.array_equal(label_of(folder, "p1_b"), square(1, start=0))
    assert "2 masks have values between black and white: 128 and more counts" in capsys.readouterr().out


def test_the_threshold_itself_counts(folders: tuple[Path, Path], raw: Path) -> None:
    save(folders[1] / "p1_a.png", square(100))
    assert label_of(convert(folders, threshold=100)).any()
    problems = problems_of(folders, raw / "none", threshold=101, raw_folder=raw / "none")
    assert "p1_a.png: mask is empty (nothing reaches the threshold 101)" in problems[0]


@pytest.mark.parametrize(
    ("labels", "options"),
    [(("a:1", "b:2"), {}), (("a:#FF0000",), {}), (("a:0",), {"background": "255"}), (("a:255",), {"threshold": 256})],
)
def test_a_threshold_needs_masks_of_one_class(
    labels: tuple[str, ...], options: dict, folders: tuple[Path, Path], raw: Path
) -> None:
    (problem,) = problems_of(folders, raw, labels, **{"threshold": 128, **options})
    assert "--threshold" in problem


def test_several_masks_of_one_image_are_merged(folders: tuple[Path, Path], raw: Path) -> None:
    for path in list(folders[1].iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    save(folders[1] / "p1_a_mask_1.png", square(start=3))
    folder = convert(folders, mask_pattern=r"(?P<case>.+?)_mask(_\d+)?")
    assert np.array_equal(label_of(folder), np.maximum(square(1), square(1, start=3)))
    assert np.array_equal(label_of(folder, "p1_b"), square(1))


def test_masks_may_lie_beside_their_images(folders: tuple[Path, Path], raw: Path) -> None:
    for path in list(folders[1].iterdir()):
        path.rename(folders[0] / f"{path.stem}_mask.png")
    folder = convert((folders[0], folders[0]), mask_pattern="(?P<case>.+)_mask")
    assert len(list((folder / "imagesTr").iterdir())) == len(list((folder / "labelsTr").iterdir())) == 6


def make_class_files(masks: Path, overlap: int) -> None:
    for path in list(masks.iterdir()):
        save(masks / "Disc" / path.name, square())
        save(masks / "Cup" / path.name, square(start=4 - overlap))
        path.unlink()


BY_CLASS = {"mask_pattern": "(?P<label>[^/]+)/(?P<case>.+)"}


def test_one_file_per_class(folders: tuple[Path, Path], raw: Path) -> None:
    make_class_files(folders[1], overlap=0)
    folder = convert(folders, ("disc:255", "cup:255"), **BY_CLASS)
    assert np.array_equal(label_of(folder), np.maximum(square(1), square(2, start=4)))


def test_files_of_classes_that_overlap_need_nesting(folders: tuple[Path, Path], raw: Path) -> None:
    make_class_files(folders[1], overlap=3)
    problems = problems_of(folders, raw, ("disc:255", "cup:255"), **BY_CLASS)
    assert len(problems) == 6 and "9 pixels are both disc and cup; give --nested" in problems[0]
    folder = convert(folders, ("disc:255", "cup:255"), nested=True, **BY_CLASS)
    assert np.array_equal(label_of(folder), square(2))


def test_a_class_without_file_or_a_file_without_class_is_refused(folders: tuple[Path, Path], raw: Path) -> None:
    make_class_files(folders[1], overlap=0)
    (folders[1] / "Cup/p1_a.png").unlink()
    save(folders[1] / "Macula/p1_a.png", square())
    problems = problems_of(folders, raw, ("disc:255", "cup:255"), **BY_CLASS)
    assert len(problems) == 2
    assert "is of Macula, which is no class" in problems[0] and "p1_a.png: no mask of cup" in problems[1]


@pytest.mark.parametrize(("labels", "nested"), [(("disc:1,2", "cup:2"), False), (("disc:1", "cup:2"), True)])
def test_nested_classes_become_regions(
    labels: tuple[str, ...], nested: bool, folders: tuple[Path, Path], raw: Path
) -> None:
    mask = square(1)
    mask[2, 2] = 2
    for path in folders[1].iterdir():
        save(path, mask)
    folder = convert(folders, labels, nested=nested)
    dataset = dataset_in(folder)
    assert dataset["labels"] == {"background": 0, "disc": [1, 2], "cup": 2} and dataset["regions_class_order"] == [1, 2]
    assert np.array_equal(label_of(folder), mask)


def test_nnunet_paints_nested_regions_back_to_the_same_indices() -> None:
    torch = pytest.importorskip("torch")
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    entries = parse_labels(["organ:1,2,3", "tumour:2,3", "core:3", "other:9"]).dataset_json()
    manager = LabelManager(entries["labels"], entries["regions_class_order"])
    indices = torch.arange(5)
    regions = torch.stack([torch.isin(indices, torch.tensor(region)) for region in manager.foreground_regions])
    assert torch.equal(manager.convert_probabilities_to_segmentation(regions.float()[:, None, None])[0, 0], indices)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ((), {}, "expected IMAGES MASKS and --labels"),
        (("polyp",), {}, "expected NAME:VALUE"),
        (("polyp:x",), {}, "expected a grey value like 255 or a colour"),
        (("polyp:300000",), {}, "expected a grey value"),
        (("polyp:#FF00",), {}, "expected a grey value"),
        (("a:1", "a:2"), {}, "each name once"),
        (("background:0",), {}, "background not among them"),
        (("polyp:0",), {}, "polyp has the value of the background, 0"),
        (("cup:2", "disc:1,2"), {}, "cup and disc share values, but disc is not inside cup"),
        (("a:1,2", "b:2,3"), {}, "b is not inside a"),
        (("ignore:9", "a:1"), {}, "list ignore last"),
    ],
)
def test_wrong_labels_are_refused(
    labels: tuple[str, ...], options: dict, words: str, folders: tuple[Path, Path], raw: Path
) -> None:
    (problem,) = problems_of(folders, raw, labels, **options)
    assert words in problem


def test_the_background_may_be_white_and_ignore_is_nnunets() -> None:
    labels = parse_labels(["disc:128,0", "cup:0", "ignore:7"], background="255")
    assert labels.dataset_json() == {
        "labels": {"background": 0, "disc": [1, 2], "cup": 2, "ignore": 3},
        "regions_class_order": [1, 2],
    }


# --- folds -------------------------------------------------------------------------------------------------------


def test_groups_are_never_on_both_sides_of_a_fold(
    folders: tuple[Path, Path], raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = convert(folders, group=r"p\d", folds=3)
    splits = splits_in(folder)
    assert len(splits) == 3
    for split in splits:
        assert len(split["train"]) == 4 and len(split["val"]) == 2
        assert not {name[:2] for name in split["train"]} & {name[:2] for name in split["val"]}
    rows = rows_in(folder)
    assert rows[0] == {
        "case": "p1_a", "patient": "p1", "stratum": "", "subset": "train", "width": "8", "height": "6",
        "image": "p1_a.png", "masks": "p1_a.png",
    }  # fmt: skip
    assert "6 training cases of 3 groups, 0 test cases, 3 folds" in capsys.readouterr().out


def test_images_of_the_same_pixels_are_in_one_fold_and_named(
    folders: tuple[Path, Path], raw: Path, capsys: pytest.CaptureFixture
) -> None:
    for number in range(1, 5):  # p1_a again, as other files
        save(folders[0] / f"copy{number}.{'png' if number % 2 else 'tif'}", photo(0))
        save(folders[1] / f"copy{number}.png", square(start=2))
    folder = convert(folders, folds=3)
    alike = {"p1_a", *(f"copy{number}" for number in range(1, 5))}
    for split in splits_in(folder):
        assert alike <= set(split["train"]) or alike <= set(split["val"])
    assert "4 pairs of images are the same (copy1 and copy2, copy1 and copy3, copy1 and copy4, ...)" in (
        capsys.readouterr().out
    )


def test_images_of_the_same_pixels_join_the_groups_they_are_in(folders: tuple[Path, Path], raw: Path) -> None:
    save(folders[0] / "p3_a.png", photo(0))  # p1_a's pixels: patients 1 and 3 are one now
    folder = convert(folders, group="(p.)_", folds=2)
    for split in splits_in(folder):
        assert {"p2_a", "p2_b"} in (set(split["train"]), set(split["val"]))


def test_copies_that_were_cut_or_made_darker_are_found_where_alikeness_is_asked_for(
    folders: tuple[Path, Path], raw: Path
) -> None:
    coarse = np.random.RandomState(9).randint(0, 256, (5, 5)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((200, 200), Image.Resampling.BICUBIC)
    save(folders[0] / "p1_a.png", np.asarray(picture.convert("RGB")))
    save(folders[1] / "p1_a.png", square(size=(200, 200)))
    save(folders[0] / "copy.png", np.asarray(picture.crop((4, 2, 197, 195)).point(lambda v: v * 0.7).convert("RGB")))
    save(folders[1] / "copy.png", square(size=(193, 193)))

    def whose(**options) -> dict[str, str]:
        folder = convert(folders, folds=3, **options)
        return {row["case"]: row["patient"] for row in rows_in(folder)}

    assert len(set(whose().values())) == 7
    found = whose(alike=0.97, dataset_id=8)
    assert found["copy"] == found["p1_a"] and len(set(found.values())) == 6


def test_the_evaluation_reads_whose_case_is_whose(folders: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    folder = convert(folders, group="(p.)_", folds=2)
    shutil.copytree(folder / "labelsTr", tmp_path / "predictions")
    evaluation = evaluate_folders(folder / "labelsTr", tmp_path / "predictions")
    assert {row["case"]: row["patient"] for row in evaluation.rows}["p2_b"] == "p2"


def test_a_training_image_under_another_name_is_no_test_image(
    folders: tuple[Path, Path], raw: Path, tmp_path: Path
) -> None:
    save(tmp_path / "more" / "new.png", photo(2))
    problems = problems_of(folders, raw, test_images=tmp_path / "more", folds=2)
    assert len(problems) == 1 and "p2_a.png again" in problems[0] and "--exclude new or p2_a" in problems[0]
    convert(folders, test_images=tmp_path / "more", folds=2, exclude=["p2_a"])


def test_the_group_may_be_a_named_or_the_first_group_of_the_expression() -> None:
    assert by_regex(r"(?P<group>p\d)_(\w)", "--group")("p1_a") == "p1"
    assert by_regex(r"_(\w)", "--group")("p1_a") == "a"
    assert by_regex(r"p\d", "--group")("x/p1_a") == "p1"


def test_folds_are_balanced_by_stratum(folders: tuple[Path, Path], raw: Path) -> None:
    splits = json.loads((convert(folders, stratum="[ab]$", folds=3) / "splits_final.json").read_text())
    assert all(sorted(name[-1] for name in split["val"]) == ["a", "b"] for split in splits)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group": r"p\d"}, "--folds 5: the 6 training images are of 3 groups"),
        ({"group": "("}, "--group (: is no regular expression"),
        ({"group": "q"}, "--group q matches nothing in p1_a"),
        ({"folds": 1}, "--folds 1: the 6 training images are of 6 groups"),
        ({"mask_pattern": ".+"}, "has no group (?P<case>...)"),
        ({"test_masks": "x"}, "--test-masks: needs --test-images"),
        ({"exclude": ["p9"]}, "--exclude p9: no such case"),
        ({"channels": "rgba"}, "--channels: expected auto, grey, rgb, got rgba"),
        ({"name": None}, "expected a dataset id with -d, and --name"),
        ({"processes": 0}, "--processes: expected 1 or more"),
        ({"preset": "kvasirr"}, "--preset: expected kvasir, cvc-clinicdb"),
        ({"preset": "kvasir"}, "knows its folders"),
    ],
)
def test_wrong_arguments_are_refused(options: dict, words: str, folders: tuple[Path, Path], raw: Path) -> None:
    assert words in problems_of(folders, raw, **options)[0]


def test_test_images_may_have_masks_or_none(folders: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    save(tmp_path / "test/t1.png", photo(9))
    save(tmp_path / "test_masks/t1.png", square())
    folder = convert(folders, test_images=tmp_path / "test", test_masks=tmp_path / "test_masks")
    assert [path.name for path in (folder / "imagesTs").iterdir()] == ["t1_0000.png"]
    assert label_of(folder, "t1", "Ts").any()
    folder = convert(folders, test_images=tmp_path / "test", dataset_id=8)
    assert (folder / "imagesTs/t1_0000.png").is_file() and not (folder / "labelsTs").exists()


def test_a_patient_is_not_both_trained_and_tested_on(folders: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    save(tmp_path / "test/p1_c.png", photo(9))
    save(tmp_path / "test/p2_a.png", photo(9))
    problems = problems_of(folders, raw, group=r"p\d", folds=2, test_images=tmp_path / "test")
    assert any("p1_c.png: its group p1 has training and test images" in problem for problem in problems)
    assert any("test/p2_a.png: a training image has the same name" in problem for problem in problems)


# --- links, accents, what is not used ------------------------------------------------------------------------------


def test_a_patients_folder_that_is_a_link_is_converted_like_the_others(tmp_path: Path, raw: Path) -> None:
    for number in range(6):
        for kind, values in (("images", photo(number)), ("masks", square())):
            save(tmp_path / kind / f"p{number}/a.png", values)
    for kind in ("images", "masks"):
        shutil.move(tmp_path / kind / "p3", tmp_path / f"{kind}-p3")
        (tmp_path / kind / "p3").symlink_to(tmp_path / f"{kind}-p3")
    folder = convert((tmp_path / "images", tmp_path / "masks"))
    assert [row["case"] for row in rows_in(folder)] == [f"p{number}_a" for number in range(6)]


def test_an_accent_pairs_with_itself_however_it_was_written(folders: tuple[Path, Path], raw: Path) -> None:
    images, masks = folders
    (images / "p1_a.png").rename(images / unicodedata.normalize("NFC", "é1.png"))
    (masks / "p1_a.png").rename(masks / unicodedata.normalize("NFD", "é1.png"))
    assert "é1.png" in [row["image"] for row in rows_in(convert(folders))]


def test_a_name_that_is_not_utf8_is_a_problem(folders: tuple[Path, Path], raw: Path) -> None:
    os.rename(folders[0] / "p1_a.png", os.fsencode(folders[0]) + b"/Gr\xfc.png")
    problems = problems_of(folders, raw)
    assert any("images/Gr\\xfc.png: the name is not UTF-8" in problem for problem in problems)


def test_images_and_masks_that_are_not_used_are_named(
    folders: tuple[Path, Path], raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = folders
    save(images / "p9.gif", photo(9, channels=1))
    for path in masks.iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    save(masks / "p1_a_border.png", square())
    convert(folders, mask_pattern="(?P<case>.+)_mask", exclude=["p1_b"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Not used: 1 file ending in .gif (read are .png, ") and printed[0].endswith(": p9.gif")
    assert printed[1] == "Not used: 1 file ending in .png (named or placed otherwise than it is read): p1_a_border.png"
    assert sum("Not used" in line for line in printed) == 2


# --- bad files ---------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_together(folders: tuple[Path, Path], raw: Path) -> None:
    pictures_folder, masks = folders
    content = (pictures_folder / "p1_a.png").read_bytes()
    (pictures_folder / "p1_a.png").write_bytes(content[: len(content) // 2])
    save(masks / "p1_b.png", square(size=(9, 6)))
    save(pictures_folder / "p2_a.jpg", photo(3))
    (masks / "p2_b.png").unlink()
    save(masks / "stray.png", square())
    save(masks / "p3_a.png", square(0))
    save(masks / "p3_b.png", square(254))
    save(masks / "p2_a.bmp", square())
    save(pictures_folder / "x.png", photo(1, channels=1).astype(np.uint16) * 200)
    save(masks / "x.png", square())
    save(pictures_folder / "y.jpg", photo(1), mode="CMYK")
    (masks / "y.png").write_bytes(b"")
    expected = [
        "p1_a.png: cannot be read",
        "p1_b.png: has 9x6 pixels, its image 8x6",
        "p2_a.png: the same case as",
        "p2_a.bmp: the same mask as p2_a.png",
        "p2_b.png: image without a mask",
        "stray.png: mask without an image",
        "p3_a.png: mask is empty; correct it, or give --empty",
        "p3_b.png: unknown label value 254; known are 0, 255; give all of them with --labels",
        "x.png: has more than 8 bits a channel",
        "y.jpg: expected grey or RGB, got CMYK",
        "y.png: is empty (0 bytes)",
    ]
    assert_listed(problems_of(folders, raw), expected)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp"])
def test_a_file_cut_short_is_a_problem(ending: str, folders: tuple[Path, Path], raw: Path) -> None:
    (folders[0] / "p1_a.png").unlink()
    path = save(folders[0] / f"p1_a{ending}", photo(0, size=(64, 48)))
    path.write_bytes(path.read_bytes()[:-400])
    save(folders[1] / "p1_a.png", square(size=(64, 48)))
    (problem,) = problems_of(folders, raw)
    assert f"p1_a{ending}: cannot be read" in problem


def test_sixteen_bit_colours_are_not_silently_made_eight(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + bytes(range(12)))) + chunk(b"IEND", b"")
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert Image.open(path).mode == "RGB"  # Pillow does not tell
    with pytest.raises(ValueError, match="deep.png: .*8 bits"):
        pictures.read_image(path)


def test_names_that_differ_by_case_only_are_one_case(folders: tuple[Path, Path], raw: Path) -> None:
    for folder, values in zip(folders, (photo(0), square()), strict=True):
        save(folder / "P1_A.png", values)
        if len(list(folder.iterdir())) < 7:
            pytest.skip("this file system does not tell upper from lower case")
    assert any("the same case as" in problem for problem in problems_of(folders, raw))


def test_a_tif_of_several_pictures_is_refused(folders: tuple[Path, Path], raw: Path) -> None:
    page = Image.fromarray(photo(0))
    page.save(folders[0] / "p4.tif", save_all=True, append_images=[page])
    save(folders[1] / "p4.png", square())
    (problem,) = problems_of(folders, raw)
    assert "p4.tif: holds 2 pictures" in problem


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_exif_rotation_is_refused_applied_or_ignored_as_told(
    ending: str, folders: tuple[Path, Path], raw: Path
) -> None:
    (folders[0] / "p1_a.png").unlink()
    path = save(folders[0] / f"p1_a{ending}", photo(0))
    stored = np.asarray(Image.open(path))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # viewers turn it clockwise
    save(path, photo(0), exif=exif)
    (problem,) = problems_of(folders, raw)
    assert "EXIF orientation is 6" in problem and "--exif apply" in problem and "--exif ignore" in problem
    assert np.array_equal(image_of(convert(folders, exif="ignore")), stored)
    save(folders[1] / "p1_a.png", square(size=(6, 8)))
    folder = convert(folders, exif="apply", dataset_id=8)
    assert np.array_equal(image_of(folder), np.rot90(stored, -1))
    assert Image.open(folder / "imagesTr/p1_a_0000.png").getexif().get(ORIENTATION, 1) == 1


def test_every_exif_orientation_can_be_ignored_in_a_tif(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        path = save(tmp_path / f"{orientation}.tif", photo(0), exif=exif)
        assert np.array_equal(np.asarray(pictures.open_picture(path, "ignore")), photo(0))


@pytest.mark.parametrize(("empty", "n_cases"), [("keep", 6), ("leave-out", 5)])
def test_empty_masks_are_kept_or_left_out_as_told(
    empty: str, n_cases: int, folders: tuple[Path, Path], raw: Path
) -> None:
    save(folders[1] / "p1_a.png", square(0))
    folder = convert(folders, empty=empty)
    assert len(list((folder / "imagesTr").iterdir())) == len(list((folder / "labelsTr").iterdir())) == n_cases
    assert dataset_in(folder)["numTraining"] == n_cases
    (first, *_) = splits_in(folder)
    assert len(first["train"] + first["val"]) == n_cases


def test_excluded_cases_do_not_matter(folders: tuple[Path, Path], raw: Path) -> None:
    save(folders[1] / "p1_a.png", square(size=(9, 6)))
    (folders[1] / "p1_b.png").unlink()
    folder = convert(folders, exclude=["p1_a", "p1_b"], folds=4)
    assert len(list((folder / "imagesTr").iterdir())) == 4


def test_junk_and_missing_folders(folders: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    (folders[0] / "._p1_a.png").write_bytes(b"junk")
    (folders[0] / "Thumbs.db").write_bytes(b"junk")
    convert(folders)
    (tmp_path / "nothing").mkdir()
    new = tmp_path / "new"
    assert "no images (.png, .jpg" in problems_of((tmp_path / "nothing", folders[1]), new, raw_folder=new)[0]
    assert "IMAGES" in problems_of((tmp_path / "nowhere", folders[1]), new, raw_folder=new)[0]


# --- runs --------------------------------------------------------------------------------------------------------


def test_a_run_that_fails_while_writing_leaves_nothing(
    folders: tuple[Path, Path], raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_json", disk_full)
        arguments = [str(folder) for folder in folders]
        assert (
            main(
                [
                    "convert",
                    "images",
                    *arguments,
                    "-d",
                    "7",
                    "--name",
                    "Test",
                    "--labels",
                    "polyp:255",
                    "--processes",
                    "1",
                ]
            )
            == 1
        )
    assert not raw.exists()
    convert(folders)
    with pytest.raises(ConversionError, match="Dataset007_Test .*-d"):
        convert(folders)


def test_other_splits_in_preprocessed_are_refused(folders: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    splits = tmp_path / "preprocessed/Dataset007_Test/splits_final.json"
    splits.parent.mkdir(parents=True)
    splits.write_text(json.dumps([{"train": ["p1_a"], "val": ["p2_a"]}]))
    (problem,) = problems_of(folders, raw)
    assert str(splits) in problem


def test_the_same_folders_and_seed_give_the_same_bytes(folders: tuple[Path, Path], tmp_path: Path, raw: Path) -> None:
    first, second = (contents(convert(folders, raw_folder=tmp_path / name)) for name in ("first", "second"))
    assert first == second and len(first) == 15


def test_the_command_runs_and_imports_no_torch(folders: tuple[Path, Path], raw: Path) -> None:
    arguments = (*map(str, folders), "-d", "7", "--name", "Test", "--labels", "polyp:255", "--group", r"p\d")
    done = shapekd_convert("images", *arguments, "--folds", "3", cwd=folders[0])
    assert done.returncode == 0, done.stderr
    assert "nnUNetv2_plan_and_preprocess -d 7 -c 2d" in done.stdout and "Train folds 0 to 2 only" in done.stdout
    assert "Checking images" in done.stderr


def test_nnunet_accepts_the_dataset(folders: tuple[Path, Path], raw: Path) -> None:
    """Its own integrity check, in a process of its own as it imports torch and starts workers."""
    mask = square(1)
    mask[2, 2] = 2
    for path in folders[1].iterdir():
        save(path, mask)
    folder = convert(folders, ("disc:1,2", "cup:2"))
    code = (
        "import sys\nfrom nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity\n"
        "if __name__ == '__main__':\n    verify_dataset_integrity(sys.argv[1], 1)"
    )
    script = raw.parent / "verify.py"
    script.write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=raw.parent)
    assert done.returncode == 0 and "verify_dataset_integrity Done" in done.stdout, done.stdout + done.stderr
