"""Shifts made with the reference: whose contrast and whose texture changes, how far, and that nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("torchio")

from scenes import STACK, heart, scene

from nnunet_shapekd.stress.image_files import read_image
from nnunet_shapekd.stress.shifts import SHIFTS, shifted
from nnunet_shapekd.stress.structures import class_contrast, class_spread

OF_CLASSES = [name for name, shift in SHIFTS.items() if shift.classes]
CUBE = (1.5, 1.5, 1.5)


def test_inversion_turns_the_contrast_to_the_surroundings_round_and_leaves_the_rest():
    values, classes = heart()
    values[:, classes == 0] = 250
    values[:, classes == 1] = 300
    values[:, :2] = 0  # room below
    result = shifted(values, "inversion", 4, scene("inversion", classes))[0]
    inner = (np.indices(classes.shape)[0] - 30) ** 2 + (np.indices(classes.shape)[1] - 30) ** 2 < 16
    assert result[inner].mean() == pytest.approx(200, abs=1)
    assert shifted(values, "inversion", 2, scene("inversion", classes))[0][inner].mean() == pytest.approx(250, abs=1)
    assert np.array_equal(result[50:], values[0, 50:])


def test_only_the_structure_is_inverted_where_it_lies():
    values = np.full((1, 50, 30, 1), 100, np.float32)
    classes = np.zeros((50, 30, 1), np.int32)
    classes[34:42, 5:11] = 1  # off the middle, and of another place if axes were swapped
    values[0][classes == 1] = 160
    values[0, :4, :4] = 0  # so that the range has room on both sides
    result = shifted(values, "inversion", 4, scene("inversion", classes))[0]
    assert result[37:39, 7:9].mean() < 60 and values[0, 37, 7] == 160
    far = np.ones(classes.shape, bool)
    far[29:47, 0:16] = False
    assert np.allclose(result[far], values[0][far], atol=1e-3)


@pytest.mark.parametrize("shift", OF_CLASSES)
def test_a_shift_of_classes_that_knows_none_says_which_option_names_them(shift):
    values, classes = heart()
    with pytest.raises(ValueError, match=f"{shift} .*{SHIFTS[shift].classes}"):
        shifted(values, shift, 4, scene(shift))
    np.testing.assert_allclose(shifted(values, shift, 4, scene(shift, classes * 0)), values, atol=1e-3)


def cavity_in_wall() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Intensities, classes (1 wall, 2 cavity), and each part's inside, farther from any border than it is soft."""
    x, y, _ = np.indices((90, 90, 3))
    r = np.hypot(x - 45, y - 45)
    classes = np.where(r < 15, 2, np.where(r < 30, 1, 0)).astype(np.int32)
    values = np.select([classes == 2, classes == 1], [0.9, 0.3], 0.5).astype(np.float32)[None]
    return values, classes, {"cavity": r < 10, "wall": (r > 20) & (r < 25), "rest": r > 35}


def test_contrasts_of_neighbours_to_one_another_and_to_their_surroundings_shrink_by_one_factor():
    values, classes, inside = cavity_in_wall()
    texture = 0.01 * np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
    plain, textured = (class_contrast(image, 0.25, scene("", classes)) for image in (values, values + texture))
    for part, expected in {"cavity": 0.5 + 0.25 * 0.4, "wall": 0.5 - 0.25 * 0.2, "rest": 0.5}.items():
        np.testing.assert_allclose(plain[0][inside[part]], expected, atol=1e-5)
        np.testing.assert_allclose((textured - plain)[0][inside[part]], texture[0][inside[part]], atol=1e-3)


def test_what_is_not_named_counts_as_surroundings_and_stays():
    values, classes, inside = cavity_in_wall()
    result = class_contrast(values, 0.0, scene("", np.where(classes == 2, 1, 0)))
    np.testing.assert_allclose(result[0][inside["cavity"]], 0.3, atol=1e-5)  # the cavity lies in the wall alone
    for part in ("wall", "rest"):
        assert np.array_equal(result[0][inside[part]], values[0][inside[part]])


def test_borders_of_contrasts_stay_as_soft_as_partial_volume_makes_them():
    values, classes, _ = cavity_in_wall()
    line = class_contrast(values, 0.5, scene("", classes))[0, 45, 45:, 1]
    assert (line[:10] == line[0]).all() and np.abs(np.diff(line - values[0, 45, 45:, 1])).max() < 0.5 * 0.6 * 0.41


def test_spread_is_scaled_about_the_mean_which_stays():
    x, y, _ = np.indices((40, 40, 3))
    classes = ((x > 9) & (x < 30)).astype(np.int32)
    values = (0.5 + np.where(classes == 1, 0.1 * (-1.0) ** (x + y), 0.3)).astype(np.float32)[None]
    result = class_spread(values, 3.0, scene("", classes))
    np.testing.assert_allclose(result[:, 14:26], 0.5 + 3 * (values[:, 14:26] - 0.5), atol=1e-5)
    assert result[0][classes == 1].mean() == pytest.approx(0.5, abs=1e-5)
    assert np.array_equal(result[0][classes == 0], values[0][classes == 0])


def test_spread_fades_towards_the_border_so_that_no_line_is_drawn_there():
    """By a Gaussian of one pixel: 0.399, 0.242, 0.054, 0.004 are its values at 0, 1, 2 and 3."""
    classes = np.zeros((40, 41, 3), np.int32)
    classes[10:30] = 1
    values = np.full((1, 40, 41, 3), 0.5, np.float32)
    values[:, :, ::2] += 0.1
    values[:, :, 1::2] -= 0.1
    mean = values[0, 20].mean()
    gain = (class_spread(values, 2.0, scene("", classes)) - values)[0, 8:15, 20, 1] / (values[0, 20, 20, 1] - mean)
    np.testing.assert_allclose(gain, [0, 0, 0.399, 0.883, 0.991, 1, 1], atol=2e-3)


def test_a_structure_of_one_pixels_width_has_no_inside_to_scale():
    classes = np.zeros((20, 20, 3), np.int32)
    classes[10] = 1
    values = np.random.default_rng(0).normal(size=(1, 20, 20, 3)).astype(np.float32)
    assert np.array_equal(class_spread(values, 4.0, scene("", classes)), values)


def test_a_class_that_fills_the_image_has_no_contrast_and_a_spread():
    values = np.random.default_rng(0).normal(size=(1, 20, 20, 3)).astype(np.float32)
    where = scene("", np.ones((20, 20, 3), np.int32))
    assert np.array_equal(class_contrast(values, 0.5, where), values)
    assert class_spread(values, 2.0, where).std() == pytest.approx(2 * values.std(), rel=1e-3)


def test_each_colour_has_contrasts_and_a_spread_of_its_own():
    values, classes, inside = cavity_in_wall()
    noise = np.random.default_rng(0).normal(0, 0.02, values.shape).astype(np.float32)
    values = np.concatenate((values + noise, 1 - values))
    for apply in (class_contrast, class_spread):
        together = apply(values, 0.5, scene("", classes))
        for colour in (0, 1):
            alone = apply(values[[colour]], 0.5, scene("", classes))
            np.testing.assert_allclose(together[[colour]], alone, atol=1e-5)
    contrast = class_contrast(values, 0.5, scene("", classes))
    np.testing.assert_allclose(contrast[1][inside["cavity"]], 0.3, atol=1e-5)


@pytest.mark.parametrize(("spacing", "reached"), [(STACK, False), (CUBE, True)])
def test_a_slice_of_a_stack_is_shifted_by_itself(spacing, reached):
    values, classes, _ = cavity_in_wall()
    classes[..., [0, 2]] = 0
    result = class_contrast(values, 0.5, scene("", classes, spacing))
    assert np.array_equal(result[..., 0], values[..., 0]) != reached


DATA = ROOT.parent / "shared" / "data" / "acdc" / "training"


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ACDC in ../shared/data")
def test_a_real_cavitys_contrast_falls_and_its_wall_spreads_without_turning_it_round():
    for path in sorted(DATA.glob("*/*frame01_gt.nii.gz"))[:3]:
        reference = read_image(path).values[0].astype(np.int32)
        image = read_image(path.with_name(path.name.replace("_gt", "")))

        def measured(values: np.ndarray, reference=reference) -> tuple[float, float]:
            cavity, wall = (values[0][reference == label] for label in (3, 2))
            return cavity.mean() - wall.mean(), wall.std()

        contrast, spread = measured(image.values)
        weaker, _ = measured(shifted(image.values, "class-contrast", 2, scene("", reference, image.spacing)))
        wall = (reference == 2).astype(np.int32)
        same, wider = measured(shifted(image.values, "class-spread", 4, scene("", wall, image.spacing)))
        assert 0.4 * contrast < weaker < 0.6 * contrast
        assert 2 * spread < wider < 4 * spread and 0.8 * contrast < same < 1.05 * contrast
