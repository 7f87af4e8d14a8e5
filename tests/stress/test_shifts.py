"""Shifts: their size is fixed, their pattern the case's own; what those of the whole image do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torchio")

from scenes import STACK, heart, scene

from nnunet_shapekd.stress import acquisition
from nnunet_shapekd.stress.acquisition import BIAS_PERCENTILES, PERCENTILES
from nnunet_shapekd.stress.shifts import SEVERITIES, SHIFTS, seed_of, shifted


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_grows_with_severity_and_stays_in_the_images_range(shift):
    values, classes = heart()
    sizes = []
    for severity in SEVERITIES:
        result = shifted(values, shift, severity, scene(shift, classes))
        assert (result.shape, result.dtype) == (values.shape, np.float32)
        assert values.min() <= result.min() and result.max() <= values.max()
        # as nnU-Net sees it, which takes back what is linear
        sizes.append(np.abs((result - result.mean()) / result.std() - (values - values.mean()) / values.std()).mean())
    assert sizes[0] < 1e-6 < sizes[1] < sizes[4]
    if shift != "low-resolution":  # which pixels are kept is no matter of degree
        assert sizes == sorted(sizes)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_pattern_is_the_cases_own_and_no_random_state_changes_it(shift):
    values, classes = heart()
    ours = shifted(values, shift, 3, scene(shift, classes))
    torch.manual_seed(5)
    np.random.seed(5)
    assert np.array_equal(ours, shifted(values, shift, 3, scene(shift, classes)))
    others = [shifted(values, shift, 3, scene(shift, classes, case=f"case {i}")) for i in range(4)]
    drawn = shift in ("noise", "bias-field", "ghosting")
    assert any(not np.array_equal(ours, other) for other in others) == drawn


def test_a_seed_is_the_same_in_every_process():
    assert seed_of("someone", "noise") == 3136231973  # Python's own hash would differ
    assert len({seed_of(case, shift, seed) for case in "ab" for shift in ("noise", "blur") for seed in (0, 1)}) == 8


def test_only_noise_differs_between_the_files_of_a_case():
    values, classes = heart()
    differ = [
        shift
        for shift in SHIFTS
        if not np.array_equal(*(shifted(values, shift, 2, scene(shift, classes, channel=c)) for c in (0, 1)))
    ]
    assert differ == ["noise"]


def scaled(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, PERCENTILES)
    return (values - low) / (high - low)


def test_gamma_raises_the_scaled_image_to_its_exponent():
    values, _ = heart()
    inside = (scaled(values) > 0) & (scaled(values) < 1)
    low, high = np.percentile(values, PERCENTILES)
    result = (shifted(values, "gamma-dark", 2, scene("gamma-dark")) - low) / (high - low)
    np.testing.assert_allclose(result[inside], scaled(values)[inside] ** 2, atol=1e-4)


def test_noise_has_the_stated_part_of_the_images_standard_deviation():
    values, _ = heart((80, 80, 10))
    added = shifted(values, "noise", 2, scene("noise")) - values
    middle = np.abs(scaled(values) - 0.3) < 0.1  # nothing is clipped there
    assert added[middle].std() == pytest.approx(0.25 * values.std(), rel=0.02)


def test_contrast_is_nnunets_which_keeps_the_range():
    values, _ = heart()
    x = scaled(values).astype(np.float64)
    expected = np.clip((x - x.mean()) * 3 + x.mean(), x.min(), x.max())
    low, high = np.percentile(values, PERCENTILES)
    result = (shifted(values, "contrast", 3, scene("contrast")) - low) / (high - low)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("shift", ["blur", "low-resolution"])
def test_a_stack_is_blurred_within_its_slices_and_a_volume_along_all_axes(shift):
    values, _ = heart()
    for spacing, mixed in ((STACK, False), ((1.5, 1.5, 1.5), True)):
        other = values.copy()
        other[..., 4:] = values[..., 4:] // 2 + 50
        results = [shifted(image, shift, 2, scene(shift, spacing=spacing))[..., :4] for image in (values, other)]
        low, high = (np.percentile(image, PERCENTILES) for image in (values, other))
        same = np.allclose(*results, atol=0.5)
        assert same != mixed, (low, high)


def test_blur_is_measured_in_pixels_of_the_finest_axis():
    impulse = np.zeros((1, 41, 41, 3), dtype=np.float32)
    impulse[:, 20, 20, 1] = 1
    profile = shifted(impulse, "blur", 2, scene("blur", spacing=(0.7, 0.7, 5)))[0, :, :, 1].sum(axis=1)
    x = np.arange(41) - 20
    assert np.sqrt((profile * x**2).sum() / profile.sum()) == pytest.approx(2, rel=0.02)


def test_ghosting_runs_within_the_slices():
    values, _ = heart()
    values[..., 3] = 100  # an empty slice stays empty
    for case in "abcdefgh":
        result = shifted(values, "ghosting", 4, scene("ghosting", case=case))
        assert np.abs(result[..., 3] - 100).max() < 1
        assert np.abs(result[..., 2] - values[..., 2]).max() > 5


def test_a_bias_field_has_its_ratio_in_the_body_and_is_smooth_in_mm():
    shape = (64, 64, 10)
    body = np.zeros(shape, dtype=np.float32)
    body[16:48, 16:48] = 1000
    body[0, 0, 0] = 3000  # room for what is brighter
    field = shifted(body[None], "bias-field", 3, scene("bias-field"))[0][body == 1000].reshape(32, 32, 10) / 1000
    dark, bright = np.percentile(field, BIAS_PERCENTILES)
    assert bright / dark == pytest.approx(5, rel=0.02)
    # per mm it changes no faster across the slices than within them
    steps = [np.abs(np.diff(np.log(field), axis=a)).mean() / STACK[a] for a in range(3)]
    others = []
    for case in "abcdefgh":
        log = np.log(shifted(body[None], "bias-field", 3, scene("bias-field", case=case))[0][body == 1000])
        others.append([np.abs(np.diff(log.reshape(32, 32, 10), axis=a)).mean() / STACK[a] for a in range(3)])
    across, within = np.mean([*others, steps], axis=0)[2], np.mean([*others, steps], axis=0)[:2].mean()
    assert across < 2 * within


def test_an_image_of_one_value_stays_as_it_is():
    constant = np.full((1, 16, 16, 3), 7)
    for shift in SHIFTS:
        assert (shifted(constant, shift, 4, scene(shift, np.ones((16, 16, 3), np.int32))) == 7).all()


def test_the_first_severity_is_the_strongest_that_nnunet_trains_with():
    """Against the installed nnU-Net's own transforms, so that a change there is noticed."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    composed = nnUNetTrainer.get_training_transforms((32, 32), (0, 0), None, (0, 1), False)
    by_name = {type(t.transform).__name__: t.transform for t in composed.transforms if hasattr(t, "transform")}
    gamma = by_name["GammaTransform"].gamma.contrast_range
    trained = {
        "gamma-dark": gamma[1],
        "gamma-bright": gamma[0],
        "contrast": by_name["ContrastTransform"].contrast_range.contrast_range[1],
        "noise": by_name["GaussianNoiseTransform"].noise_variance[1],
        "blur": by_name["GaussianBlurTransform"].blur_sigma[1],
        "low-resolution": by_name["SimulateLowResolutionTransform"].scale[0],
    }
    assert {name: shift.values[0] for name, shift in SHIFTS.items() if shift.trained} == trained


def test_the_documentation_has_the_sizes():
    written = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name, shift in SHIFTS.items():
        sizes = " | ".join(f"{value:g}" for value in shift.values)
        assert f"| `{name}` | {shift.parameter} | {sizes} | {shift.trained or 'no'} |" in written


def disc_in(size: int) -> np.ndarray:
    """(1, size, size, 1): the same disc, with more or less air around it."""
    x, y = np.mgrid[:size, :size] - size // 2
    return (100.0 * (x**2 + y**2 < 400) + 1.0 * (x**2 + y**2 < 100)).astype(np.float32)[None, ..., None]


@pytest.mark.parametrize("size", [122, 123, 124, 126])
def test_ghosting_is_as_strong_whatever_the_images_size(size):
    def change(size: int) -> float:
        values = disc_in(size)
        ghosted = acquisition.ghosting(values, 1.0, scene("ghosting"))
        return float(np.abs(ghosted - values).sum() / values.sum())

    assert change(size) == pytest.approx(change(120), rel=0.15) and change(120) > 0.2


def test_noise_and_contrast_are_by_each_colours_own_deviation_and_mean():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(128, 40, (64, 64, 1)), rng.normal(60, 4, (64, 64, 1))]).astype(np.float32)
    noise = acquisition.noise(values, 0.5, scene("noise")) - values
    assert noise.std((1, 2, 3)) == pytest.approx([20, 2], rel=0.1)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    contrast = acquisition.contrast(values, 2.0, scene("contrast"))
    assert contrast.mean((1, 2, 3)) == pytest.approx(values.mean((1, 2, 3)), rel=0.05)


def test_an_axis_too_short_for_a_low_resolution_stays_as_it_is():
    values = np.random.default_rng(0).normal(size=(1, 2, 40, 3)).astype(np.float32)
    assert shifted(values, "low-resolution", 4, scene("low-resolution")).shape == values.shape


@pytest.mark.parametrize("shift", ["gamma-dark", "gamma-bright", "contrast"])
def test_a_colour_is_changed_as_if_it_were_alone(shift):
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(mean, sd, (40, 50, 1)) for mean, sd in ((180, 20), (60, 4))]).astype(np.float32)
    together = shifted(values, shift, 1, scene(shift))
    for colour in (0, 1):
        assert np.abs(together[colour] - values[colour]).max() > 1
        np.testing.assert_allclose(together[colour], shifted(values[[colour]], shift, 1, scene(shift))[0], atol=1e-2)


def test_a_type_of_more_digits_than_float32_keeps_them():
    values, classes = heart()
    near, far = (
        shifted(image, "noise", 2, scene("noise")) for image in (values, values.astype(np.int32) + 1_000_000_000)
    )
    np.testing.assert_allclose(far - 1_000_000_000, near, atol=1e-2)
