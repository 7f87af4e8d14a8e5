"""One way to read an image, whatever its kind."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as Picture

from nnunet_shapekd.files.images import Image, read_image, write_image


def volume(kind: type = np.int16) -> np.ndarray:
    return np.arange(24, dtype=kind).reshape(2, 3, 4)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_volume_comes_back_as_it_was_written(tmp_path, ending):
    image = sitk.GetImageFromArray(volume())
    image.SetSpacing((1.5, 1.25, 10.0))
    image.SetOrigin((3.0, -2.0, 5.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    read = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(read.values, volume()) and read.values.dtype == np.int16
    assert read.spacing == (10.0, 1.25, 1.5) and read.shape == (2, 3, 4) and read.channels == 1
    assert read.unit == "mm" and not read.is_picture
    write_image(read.values, read, tmp_path / f"b{ending}")
    again = read_image(tmp_path / f"b{ending}")
    assert np.array_equal(again.values, read.values)
    assert (again.spacing, again.origin, again.direction) == (read.spacing, read.origin, read.direction)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_grey_picture_has_one_channel_whatever_its_ending(tmp_path, ending):
    grey = volume(np.uint8)[0]
    Picture.fromarray(grey).save(tmp_path / f"a{ending}")
    read = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(read.values, grey) and read.channels == 1
    assert read.is_picture and read.unit == "px" and read.spacing == (1.0, 1.0)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4), ("LA", 2)])
def test_colours_and_opacity_are_channels_behind_the_axes_of_space(tmp_path, mode, channels):
    Picture.new(mode, (7, 6)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.channels == channels and read.values.shape == (6, 7, channels) and read.shape == (6, 7)


def test_a_picture_of_one_bit_holds_no_255(tmp_path):
    Picture.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").values.dtype == bool


def test_a_picture_of_several_pages_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 6, 7), np.uint8)), str(tmp_path / "a.tif"))
    with pytest.raises(ValueError, match="a.tif: .*volume"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".png", ".tif"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    with pytest.raises(ValueError, match=f"a{ending}"):
        read_image(path)
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=f"a{ending}: cannot be read"):
        read_image(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_or_kept_as_asked(tmp_path, ending, value):
    values = volume(np.float32)
    values[0, 1, 2] = value
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a{ending}"))
    with pytest.raises(ValueError, match=f"a{ending}: .*NaN"):
        read_image(tmp_path / f"a{ending}")
    kept = read_image(tmp_path / f"a{ending}", finite=False)
    assert np.array_equal(kept.values, values, equal_nan=True)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_file_cut_short_is_no_image(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    values = np.random.default_rng(0).integers(0, 900, (4, 9, 9)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    path.write_bytes(path.read_bytes()[:-30])  # which ITK fills up without a word
    with pytest.raises(ValueError, match=f"a{ending}: cannot be read"):
        read_image(path)


def test_a_file_that_is_not_written_whole_is_an_error_that_names_it(tmp_path, monkeypatch):
    like = Image(np.zeros((3, 4, 5), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()), "mm")
    write = sitk.WriteImage

    def cut(image, path, **options):
        write(image, path, **options)
        Path(path).write_bytes(Path(path).read_bytes()[:-20])  # as ITK leaves it where the disk is full

    monkeypatch.setattr(sitk, "WriteImage", cut)
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(OSError, match=f"was not written whole, is the disk full.*{name}"):
            write_image(like.values + 1, like, tmp_path / name)
