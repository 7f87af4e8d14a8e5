"""Geometry within one NIfTI file: what its header says and what nnU-Net's reader makes of it."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nnunet_shapekd.dataset_conversion.cases import Case, check_case
from nnunet_shapekd.dataset_conversion.headers import header_problems
from nnunet_shapekd.files.images import read_image

AFFINE = np.array([[0, 1.25, 0, 3], [1.5, 0, 0, -2], [0, 0, -10, 5], [0, 0, 0, 1.0]])


def write(path: Path, values: np.ndarray | None = None, version: int = 1, **fields) -> Path:
    """A volume whose header has these values; "sizes" are its voxel's, "affine" its sform."""
    values = np.arange(60, dtype=np.int16).reshape(5, 4, 3) if values is None else values
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(values, AFFINE)
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    header = type(image.header)(bytes(content[: image.header.sizeof_hdr]), check=False)
    for name, value in fields.items():
        if name == "sizes":
            header["pixdim"][1:4] = value
        elif name == "affine":
            header["srow_x"], header["srow_y"], header["srow_z"] = np.asarray(value)[:3]
        else:
            header[name] = value
    content[: len(header.binaryblock)] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


def problems_of(path: Path) -> list[str]:
    return check_case(Case("a", path, None, "Ts"), {1: 1}, "")[0]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_of_one_opinion_is_fine(tmp_path, version, ending):
    path = write(tmp_path / f"a{ending}", version=version)
    assert not header_problems(path, read_image(path)) and not problems_of(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"sizes": (1.5 * (1 + 5e-5), 1.25, 10)},  # rounding
        {"sform_code": 0, "qform_code": 1, "sizes": (3, 1.25, 10)},  # the size is said once
        {"sform_code": 0},
        {"scl_slope": np.nan, "scl_inter": np.nan},  # nibabel's way of saying that there is none
        {"scl_slope": 0.5, "scl_inter": -7},
    ],
)
def test_headers_that_say_less_are_fine(tmp_path, fields):
    assert not problems_of(write(tmp_path / "a.nii", **fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sizes": (1.5, 1.25, 0)}, "has the voxel size 1.5 x 1.25 x 0, read as 1.5 x 1.25 x 1; correct it"),
        ({"sizes": (0, 0, 0)}, "has the voxel size 0 x 0 x 0, read as 1 x 1 x 1"),
        ({"sizes": (1.5, 1.25, np.nan)}, "has the voxel size 1.5 x 1.25 x nan"),
        ({"sizes": (1.5, 1.25, -10)}, "has the voxel size 1.5 x 1.25 x -10"),
        ({"sizes": (0, 1, 1), "sform_code": 0, "qform_code": 1}, "has the voxel size 0 x 1 x 1"),
        ({"sizes": (3, 1.25, 10)}, "the voxel size is 3 x 1.25 x 10 by pixdim, 1.5 x 1.25 x 10 by the affine"),
        ({"sizes": (1.25, 1.5, 10)}, "1.25 x 1.5 x 10 by pixdim, 1.5 x 1.25 x 10 by the affine"),
        ({"affine": 2 * AFFINE}, "1.5 x 1.25 x 10 by pixdim, 3 x 2.5 x 20 by the affine"),
        ({"affine": AFFINE + np.diag([0.1, 0, 0, 0])}, "its axes are not perpendicular"),
        ({"xyzt_units": 1}, "voxels of 1500 x 1250 x 10000 mm are no image's"),
        ({"affine": np.where(AFFINE == 3, np.nan, AFFINE)}, "correct"),
        ({"scl_slope": np.inf, "scl_inter": 0}, "scales the values by something infinite"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "scales the values by something infinite"),
        ({"scl_slope": 3e38, "scl_inter": 0}, "has NaN or infinite values"),
    ],
)
def test_a_contradiction_within_a_header_is_a_problem(tmp_path, fields, words):
    path = write(tmp_path / "a.nii.gz", **fields)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: ") and words in problem


def test_a_nifti_2_header_is_held_to_the_same(tmp_path):
    (problem,) = problems_of(write(tmp_path / "a.nii", version=2, sizes=(3, 1.25, 10)))
    assert "3 x 1.25 x 10 by pixdim, 1.5 x 1.25 x 10 by the affine" in problem


def test_values_beyond_32_bits_are_infinite_for_nnunet(tmp_path):
    (problem,) = problems_of(write(tmp_path / "a.nii", np.full((5, 4, 3), 1e300)))
    assert "infinite in 32 bits" in problem


def test_a_label_is_held_to_the_same(tmp_path):
    image = write(tmp_path / "a.nii")
    label = write(tmp_path / "b.nii", np.ones((5, 4, 3), np.uint8), sizes=(1.5, 1.25, 0))
    problems, _ = check_case(Case("a", image, label, "Tr"), {1: 1}, "")
    assert [f"{label}: its header has the voxel size" in problem for problem in problems] == [True, False]
    assert "spacing (1, 1.25, 1.5) differs" in problems[1]
