"""One way to read an image, whatever its kind."""

import gzip
import os
import resource
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from PIL import Image as Picture

from nnunet_shapekd.files.images import Image, read_image, read_space, write_image


def volume(kind: type = np.int16) -> np.ndarray:
    return np.arange(24, dtype=kind).reshape(2, 3, 4)


PAGES = np.arange(30, dtype=np.uint8).reshape(2, 3, 5)


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


def test_a_tiff_of_several_pages_is_a_volume_with_the_spacing_that_lies_beside_it(tmp_path):
    for name in ("label", "case_0000"):
        tifffile.imwrite(tmp_path / f"{name}.tif", PAGES)
    read = read_image(tmp_path / "label.tif")
    assert read.unit == "px" and read.spacing == (1.0, 1.0, 1.0) and not read.is_picture
    for name in ("label", "case"):  # nnU-Net leaves an image's channel out
        (tmp_path / f"{name}.json").write_text('{"spacing": [10, 1.5, 1.25]}')
    for name in ("label", "case_0000"):
        read = read_image(tmp_path / f"{name}.tif")
        assert np.array_equal(read.values, PAGES) and read.channels == 1
        assert read.unit == "mm" and read.spacing == (10.0, 1.5, 1.25)
    write_image(read.values, read, tmp_path / "again.tif")
    again = read_image(tmp_path / "again.tif")
    assert np.array_equal(again.values, read.values) and again.space == read.space


def test_the_plans_reader_says_whether_a_tiff_is_a_volume_or_a_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6, 3), np.uint8), photometric="minisblack")
    assert read_image(tmp_path / "a.tif").channels == 3  # as nnU-Net guesses
    assert read_image(tmp_path / "a.tif", reader="Tiff3DIO").shape == (5, 6, 3)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((5, 6, 7), np.uint8))
    with pytest.raises(ValueError, match=r"b.tif: expected .* two axes and colours, got shape \(5, 6, 7\)"):
        read_image(tmp_path / "b.tif", reader="NaturalImage2DIO")


@pytest.mark.parametrize("spacing", ["", "[]", "3", "[1, 2]", "[1, 0, 1]", '["1", 1, 1]', "[1, NaN, 1]"])
def test_an_odd_spacing_beside_a_tiff_is_an_error(tmp_path, spacing):
    tifffile.imwrite(tmp_path / "a.tif", PAGES)
    (tmp_path / "a.json").write_text(f'{{"spacing": {spacing}}}')
    with pytest.raises(ValueError, match="a.json: expected .*spacing"):
        read_image(tmp_path / "a.tif")


def sheared(folder):
    """A NIfTI file of integers whose directions are not orthonormal."""
    affine = np.array([[2, 0.9, 0, 1], [0, 3, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(volume().T, affine), folder / "sheared.nii.gz")
    return folder / "sheared.nii.gz"


def test_directions_that_are_not_orthonormal_are_read_as_nnunets_fallback_reads_them(tmp_path):
    path = sheared(tmp_path)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    (expected,), properties = NibabelIO().read_images([str(path)])
    read = read_image(path)
    assert np.array_equal(read.values, expected) and read.spacing == pytest.approx(properties["spacing"])
    assert read.origin == (-1.0, -2.0, 3.0) and read.space == read_space(path)
    write_image(read.values, read, tmp_path / "again.nii.gz")  # ITK would write another direction without a word
    assert nibabel.load(tmp_path / "again.nii.gz").affine == pytest.approx(nibabel.load(path).affine)


@pytest.mark.parametrize("n", [1, 3])
def test_a_fourth_axis_is_that_of_the_channels(tmp_path, n):
    values = np.arange(24 * n, dtype=np.int16).reshape(4, 3, 2, n)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 3, 4, 1])), tmp_path / "a.nii.gz")
    read = read_image(tmp_path / "a.nii.gz")
    assert (read.channels, read.shape, read.spacing) == (n, (2, 3, 4), (4.0, 3.0, 2.0))
    last = read.values[..., -1] if n > 1 else read.values
    assert np.array_equal(last, values[..., -1].T)


def test_infinity_by_the_scale_factor_is_infinity(tmp_path):
    image = nibabel.Nifti1Image(volume().T, np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:116] = struct.pack("<f", 3e38)  # scl_slope
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(ValueError, match="a.nii: has NaN or infinite"):
        read_image(tmp_path / "a.nii")


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


# --- what is the matter with a file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".png", ".tif"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nowhere"),
        (lambda path: path.symlink_to(path.name), "is a link to .*cannot be followed"),
        (os.mkfifo, "is no regular file"),
        (lambda path: None, "is not there any more"),
    ],
)
def test_an_error_says_what_is_the_matter(tmp_path, ending, make, words):
    make(tmp_path / f"a{ending}")
    for read in (read_image, read_space):
        with pytest.raises(ValueError, match=f"a{ending}: {words}"):
            read(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_without_a_voxel_is_an_error_that_names_it(tmp_path, ending):
    nibabel.save(nibabel.Nifti1Image(np.zeros((0, 3, 4), np.float32), np.eye(4)), tmp_path / f"a{ending}")
    with pytest.raises(ValueError, match=f"a{ending}: has no voxels"):
        read_image(tmp_path / f"a{ending}")


def test_a_name_that_is_not_utf8_is_named_and_ends_no_process(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.nii.gz"))
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"caf\\xe9.nii.gz.*not UTF-8"):
        read_image(path)


def claims(path: Path, ending: str) -> None:
    """A small file whose header says 2 GiB."""
    n = 1290
    if ending.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(volume(np.uint8), np.eye(4)), path)
        content = gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes()
        content = content[:42] + struct.pack("<3h", n, n, n) + content[48:]
        path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
        return
    sitk.WriteImage(sitk.GetImageFromArray(volume(np.uint8)), str(path), useCompression=ending.endswith(".z"))
    sizes = {".nrrd": (b"sizes: 4 3 2", b"sizes: %d %d %d"), ".mha": (b"DimSize = 4 3 2", b"DimSize = %d %d %d")}
    before, after = sizes[ending]
    path.write_bytes(path.read_bytes().replace(before, after % (n, n, n)))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_small_file_that_claims_2_gib_takes_no_memory(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    claims(path, ending)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"a{ending}: cannot be read: .*its header says 21466"):
        read_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_damaged_gzip_is_said_to_be_one(tmp_path, place):
    values = np.random.default_rng(0).integers(0, 9, (40, 40, 40)).astype(np.int16)
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.nii.gz: cannot be read whole \((CRC|Error -3)"):
        read_image(path)


def test_a_gzip_of_several_parts_is_whole(tmp_path):
    nibabel.save(nibabel.Nifti1Image(volume().T, np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content[:360]) + gzip.compress(content[360:]))
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").values, volume())


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_threads_read_headers_one_after_the_other(tmp_path, monkeypatch, ending):
    paths = [tmp_path / f"{i}{ending}" for i in range(6)]
    for path in paths:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8)), str(path))
    inside, most, counting = [], [], threading.Lock()
    original = sitk.ImageFileReader.ReadImageInformation

    def slow(reader):
        with counting:
            inside.append(reader)
            most.append(len(inside))
        time.sleep(0.01)  # others come meanwhile, if they can
        original(reader)
        with counting:
            inside.pop()

    monkeypatch.setattr(sitk.ImageFileReader, "ReadImageInformation", slow)
    with ThreadPoolExecutor(3) as pool:
        assert {space.shape for space in pool.map(read_space, paths)} == {(2, 3, 4)}
    assert most == [1] * 6
