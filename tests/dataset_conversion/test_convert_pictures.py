"""Masks that would be read wrongly without a word: turned by EXIF, nested in files of their own, drawn in alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_shapekd.dataset_conversion import pictures
from nnunet_shapekd.dataset_conversion.image_labels import merge_masks, parse_labels

ORIENTATION = 0x0112
#: EXIF orientation -> what viewers do, as rows and columns of the stored pixels
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def stored_in(mode: str) -> Image.Image:
    pixels = np.random.RandomState(0).randint(0, 256, (6, 9, 3)).astype(np.uint8)
    if mode.startswith("I"):
        return Image.fromarray(pixels[..., 0].astype(np.uint16 if mode == "I;16" else np.int32) * 200)
    return Image.fromarray(pixels).convert(mode)


def tif(path: Path, mode: str, orientation: int, compression: str | None) -> np.ndarray:
    """Writes the picture with an orientation and returns what it stores."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = stored_in(mode)
    picture.save(path, exif=exif, compression=compression)
    return np.asarray(picture)


# --- EXIF --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_a_tif_is_turned_rightly_or_refused(mode: str, compression: str | None, tmp_path: Path) -> None:
    refused = set()
    for orientation, turned in TURNED.items():
        path = tmp_path / f"{orientation}.tif"
        stored = tif(path, mode, orientation, compression)
        for exif, expected in (("apply", turned(stored)), ("ignore", stored)):
            try:
                assert np.array_equal(np.asarray(pictures.open_picture(path, exif)), expected)
            except ValueError as error:
                assert f"EXIF orientation is {orientation}" in str(error) and "in another program" in str(error)
                refused.add(orientation)
    scrambled = compression is None and mode in ("L", "P", "RGBA", "CMYK", "I;16")
    assert refused == ({5, 6, 7, 8} if scrambled else set())


# --- nesting -----------------------------------------------------------------------------------------------------

NESTED = parse_labels(["disc:255", "cup:255"], nested=True, per_file=True)


def box(index: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((10, 40), np.uint8)
    mask[:, left:right] = index
    return mask


def test_an_inner_class_may_lie_outside_its_outer_one_by_a_few_per_cent() -> None:
    merged = merge_masks([box(1, 0, 20), box(2, 1, 21)], NESTED)  # 10 of 200 pixels outside
    assert np.array_equal(merged, np.maximum(box(1, 0, 20), box(2, 1, 21)))


@pytest.mark.parametrize("swapped", [False, True])
def test_an_inner_class_outside_its_outer_one_is_refused_with_how_much(swapped: bool) -> None:
    parts = [box(1, 0, 20), box(2, 2, 22)]
    with pytest.raises(ValueError, match=r"10\.0 % of cup lie outside disc.*swapped"):
        merge_masks(parts[::-1] if swapped else parts, NESTED)


def test_an_empty_outer_mask_with_an_inner_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"100\.0 % of cup lie outside disc"):
        merge_masks([box(1, 0, 0), box(2, 2, 22)], NESTED)
    assert merge_masks([box(1, 0, 9), box(2, 0, 0)], NESTED).max() == 1


def test_several_files_of_an_outer_class_are_taken_together() -> None:
    merge_masks([box(1, 0, 10), box(1, 10, 20), box(2, 5, 15)], NESTED)
    with pytest.raises(ValueError, match="66.7 % of cup"):  # the second file of the inner class
        merge_masks([box(1, 0, 20), box(2, 1, 19), box(2, 18, 24)], NESTED)


def test_an_innermost_class_must_lie_in_all_outer_ones() -> None:
    three = parse_labels(["organ:1", "tumour:1", "core:1"], nested=True, per_file=True)
    with pytest.raises(ValueError, match="50.0 % of core lie outside tumour"):
        merge_masks([box(1, 0, 30), box(2, 5, 10), box(3, 8, 12)], three)


def test_the_inner_class_of_a_mask_of_all_classes_is_its_outer_one_too() -> None:
    together = parse_labels(["lesion:1,2", "core:2"])
    assert merge_masks([box(1, 0, 9), box(2, 12, 20)], together).max() == 2


# --- alpha -------------------------------------------------------------------------------------------------------


def in_alpha(mode: str) -> Image.Image:
    """A white picture whose lower half is transparent."""
    pixels = np.full((6, 8, 4), 255, np.uint8)
    pixels[3:, :, 3] = 0
    picture = Image.fromarray(pixels)
    if mode == "P":
        palette = Image.fromarray((pixels[..., 3] > 0).astype(np.uint8), "L").convert("P")
        palette.putpalette([255] * 6)
        palette.info["transparency"] = b"\x00\xff"
        return palette
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
@pytest.mark.parametrize("threshold", [128, None])
def test_a_mask_in_the_alpha_channel_is_refused(mode: str, threshold: int | None, tmp_path: Path) -> None:
    labels = parse_labels(["polyp:#FFFFFF" if mode == "P" and threshold is None else "polyp:255"])
    in_alpha(mode).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png: .*alpha"):
        pictures.read_mask(tmp_path / "mask.png", labels, threshold=threshold)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_does_not_matter_where_the_colours_tell_or_alpha_is_even(mode: str, tmp_path: Path) -> None:
    labels = parse_labels(["polyp:255"])
    drawn = np.zeros((6, 8, 4), np.uint8)
    drawn[:3] = 255
    Image.fromarray(drawn).convert(mode).save(tmp_path / "drawn.png")
    assert pictures.read_mask(tmp_path / "drawn.png", labels)[0].tolist() == [[1] * 8] * 3 + [[0] * 8] * 3
    Image.new(mode, (8, 6), (255, 90) if mode == "LA" else (255, 255, 255, 90)).save(tmp_path / "full.png")
    assert pictures.read_mask(tmp_path / "full.png", labels)[0].all()
