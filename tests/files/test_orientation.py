"""How sets lie, and which turn is between two: by phantoms whose turn is known."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_shapekd.files.images import Image, of_sitk, read_image, write_image
from nnunet_shapekd.files.label_maps import LabelMap
from nnunet_shapekd.files.orientation import TURNS, lie_of, turn_between, turned, turned_array

HEART = {"RV": (1,), "MLV": (2,), "LVC": (3,)}


def heart(seed: int, spacing: tuple[float, ...] = (10.0, 1.5, 1.5)) -> LabelMap:
    """A short axis: a ring, and to its left a crescent that is thicker at its lower end; place, size and tilt vary."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:64, :64] - random.uniform(26, 38, 2)[:, None, None]
    tilt = np.radians(random.uniform(-15, 15))
    y, x = np.cos(tilt) * y - np.sin(tilt) * x, np.sin(tilt) * y + np.cos(tilt) * x
    radius = random.uniform(9, 12)
    distance = np.hypot(x, y)
    crescent = np.hypot(x + radius, y - 0.3 * radius) < 1.1 * radius
    slice_ = np.select([distance < 0.6 * radius, distance < radius, crescent], [3, 2, 1], 0)
    return LabelMap(np.stack([slice_] * 3).astype(np.uint8), spacing, (0.0,) * 3, tuple(np.eye(3).ravel()), "mm")


def hearts(turn: str = "none", first: int = 0, n: int = 12, **others):
    return lie_of((turned(heart(seed, **others), turn) for seed in range(first, first + n)), HEART)


def test_a_turn_of_an_array_is_what_its_name_says():
    values = np.array([[1, 2, 3], [4, 5, 6]])
    assert turned_array(values, "upside-down").tolist() == [[4, 5, 6], [1, 2, 3]]
    assert turned_array(values, "left-right").tolist() == [[3, 2, 1], [6, 5, 4]]
    assert turned_array(values, "180").tolist() == [[6, 5, 4], [3, 2, 1]]
    assert turned_array(values, "90").tolist() == np.rot90(values).tolist() == [[3, 6], [2, 5], [1, 4]]
    assert turned_array(values, "270").tolist() == np.rot90(values, -1).tolist()
    assert turned_array(values, "transpose").tolist() == values.T.tolist()
    assert turned_array(values, "anti-transpose").tolist() == np.rot90(values.T, 2).tolist()


@pytest.mark.parametrize("turn", TURNS)
def test_every_voxel_of_a_turned_image_stays_where_it_was(turn, tmp_path):
    random = np.random.RandomState(0)
    axes = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    image = Image(random.randint(0, 99, (2, 3, 4)), (8.0, 1.5, 1.25), (5.0, -3.0, 2.0), tuple(axes.ravel()), "mm")
    write_image(turned(image, turn).values.astype(np.int16), turned(image, turn), tmp_path / "a.nii.gz")
    written = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    for z, y, x in np.ndindex(image.shape):
        place = np.array(image.origin) + axes @ (np.array([x, y, z]) * image.spacing[::-1])
        assert written[written.TransformPhysicalPointToIndex(place.tolist())] == image.values[z, y, x]
    assert np.allclose(read_image(tmp_path / "a.nii.gz").spacing, turned(image, turn).spacing)


@pytest.mark.parametrize("turn", TURNS)
def test_the_turn_between_two_sets_is_found(turn):
    back = {"90": "270", "270": "90"}.get(turn, turn)
    assert turn_between(hearts(), hearts(turn, first=50)) == (None if turn == "none" else back)


def test_voxels_of_another_size_are_no_turn():
    assert turn_between(hearts(), hearts(first=50, spacing=(10.0, 1.0, 2.0))) is None


def test_nothing_is_said_of_what_looks_the_same_turned():
    rings = {"MLV": (2,), "LVC": (3,)}
    lies = [lie_of((turned(heart(seed), turn) for seed in range(12)), rings) for turn in ("none", "90")]
    assert turn_between(*lies) is None
    assert "no two classes" in str(lies[0])


def test_nothing_is_said_of_few_cases_or_of_one_class_in_common():
    assert turn_between(hearts(), hearts("90", n=4)) is None
    other = lie_of((turned(heart(seed), "90") for seed in range(12)), {"RV": (1,), "left atrium": (2, 3)})
    assert turn_between(hearts(), other) is None
    assert lie_of([], HEART) is None


@pytest.mark.parametrize(
    ("turn", "words"),
    [("none", "to the right of RV"), ("90", "above RV"), ("left-right", "to the left of RV"), ("270", "below RV")],
)
def test_a_set_says_in_words_how_it_lies(turn, words):
    said = str(hearts(turn))
    assert words in said and "in 12 of 12 cases" in said


def test_pictures_lie_as_volumes_of_one_slice_do():
    def picture(seed: int) -> LabelMap:
        return LabelMap(heart(seed).values[0], (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), "px")

    assert turn_between(hearts("180"), lie_of(map(picture, range(12)), HEART)) == "180"


def test_values_of_sitk_turn_with_their_header():
    image = sitk.GetImageFromArray(np.arange(6, dtype=np.int16).reshape(1, 2, 3))
    assert turned(of_sitk(image), "180").origin == (2.0, 1.0, 0.0)
