"""Moves of intensities: whose intensity moves, how far, how often, along what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnunet_shapekd.method.intensity_moves import KNOTS, SMOOTHING, SPAN, MoveRanges, apply_moves, draw_moves


def sample(shape=(24, 20), b=4, c=2, seed=0):
    """Images of two structures and a background that is 8 voxels wide along the last axis."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(b, c, *shape, generator=generator)
    classes = torch.zeros(b, 1, *shape, dtype=torch.long)
    classes[:, :, : shape[0] // 2, ..., 8:] = 1
    classes[:, :, shape[0] // 2 :, ..., 8:] = 2
    return image, classes


#: as far as in a training, in every sample
EVERYTHING = MoveRanges(share=1.0)
MEANS_ALONE = MoveRanges(share=1.0, location=2.0, texture=0.0, own=1.0, background=0.0)


def moved_by(image, classes, ranges=MEANS_ALONE, seed=1, smooth_axes=None, **changed):
    ranges = replace(ranges, **changed)
    moves = draw_moves(image.shape, 3, ranges, generator=torch.Generator().manual_seed(seed))
    return apply_moves(image, classes, 3, moves, smooth_axes)


@pytest.mark.parametrize("shape", [(24, 20), (24, 10, 20)])
def test_means_move_each_on_their_own_and_texture_stays(shape):
    image, classes = sample(shape)
    before = image.clone()
    moved = moved_by(image, classes) - image
    assert torch.equal(image, before) and moved.shape == image.shape
    inner = [moved[:, :, :9, ..., 12:].flatten(2), moved[:, :, 15:, ..., 12:].flatten(2)]
    for of_structure in inner:  # (b, c, voxels): one number for each sample and channel
        torch.testing.assert_close(of_structure, of_structure[..., :1].expand_as(of_structure), atol=1e-5, rtol=0)
    shifts = torch.stack([of_structure[..., 0] for of_structure in inner])
    assert len(shifts.flatten().unique()) == shifts.numel() == 16
    assert moved[..., : 8 - SMOOTHING].abs().max() == 0


def test_the_amount_is_in_standard_deviations_of_the_sample_and_is_reached_but_not_exceeded():
    image, classes = sample(b=200, c=1)
    image[::2] *= 100
    shifts = (moved_by(image, classes) - image)[:, 0, :9, 12:].mean((1, 2)) / image.flatten(1).std(1)
    assert 1.9 < shifts.max() <= 2.001 and -2.001 <= shifts.min() < -1.9
    torch.testing.assert_close(moved_by(image, classes, location=0.0), image)


def test_a_share_of_the_samples_is_left_as_it_was():
    image, classes = sample(b=400, c=1)
    same = (moved_by(image, classes, share=0.25) == image).flatten(1).all(1)
    assert 0.7 < same.float().mean() < 0.8
    assert torch.equal(moved_by(image, classes, share=0.0), image)


def test_borders_are_softened_along_the_axes_asked_for_alone():
    image, classes = sample((24, 10, 20), c=1)
    classes[:] = 0
    classes[:, :, 6:18, 3:7, 6:14] = 1
    moved = moved_by(image, classes, smooth_axes=(True, False, True)) - image
    assert moved[:, :, :, [2, 7]].abs().max() == 0
    assert (moved[:, 0, 6 - SMOOTHING, 5, 10] != 0).all() and (moved[:, 0, 5 - SMOOTHING, 5, 10] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_channels_of_no_variance(dtype):
    image, classes = sample()
    image[:, 1] = 3
    result = moved_by(image.to(dtype), classes, EVERYTHING)
    assert result.dtype == dtype and torch.equal(result[:, 1], image[:, 1].to(dtype))
    torch.testing.assert_close(result[:, 0].float(), moved_by(image, classes, EVERYTHING)[:, 0], atol=0.1, rtol=0.05)


def test_texture_is_scaled_about_the_means_which_stay_above_and_below_by_factors_of_their_own():
    image, classes = sample(b=1, c=1)
    result = moved_by(image, classes, location=0.0, texture=2.0)
    for k in (1, 2):
        inside = classes == k
        mean = image[inside].mean()
        factors = (result[inside] - mean) / (image[inside] - mean)
        above, below = factors[image[inside] > mean], factors[image[inside] < mean]
        for of_side in (above, below):
            torch.testing.assert_close(of_side, of_side[:1].expand_as(of_side), atol=1e-3, rtol=1e-3)
            assert 0.25 <= of_side[0] <= 4
        assert abs(above[0] - below[0]) > 0.01
    assert torch.equal(result[classes == 0], image[classes == 0])


def test_the_background_moves_by_its_intensities_along_one_curve_and_what_follows_it_does_so_too():
    image, classes = sample(b=1, c=1)
    ranges = MoveRanges(share=1.0, location=3.0, texture=2.0, own=0.0, background=1.0)
    moves = draw_moves(image.shape, 3, ranges, generator=torch.Generator().manual_seed(4))
    shift = (apply_moves(image, classes, 3, moves, [False, False]) - image).flatten()
    order = image.flatten().argsort()
    intensities, shifts = image.flatten()[order], shift[order]
    assert shifts.std() > 0.1
    # continuous in the intensity whatever the class is, and at most SPAN / (knots - 1) of a deviation between knots
    steepest = 2 * 3.0 * (KNOTS - 1) / SPAN
    assert (shifts.diff().abs() <= steepest * intensities.diff() + 1e-4).all()
    still = apply_moves(image, classes, 3, draw_moves(image.shape, 3, replace(ranges, background=0.0)))
    assert torch.equal(still, image)


def test_the_number_of_knots_is_drawn_from_2_to_6():
    knots = draw_moves((500, 1, 4, 4), 3, MoveRanges()).knots.unique()
    assert knots.tolist() == [2, 3, 4, 5, 6]


def test_each_sample_may_have_ranges_of_its_own():
    image, classes = sample(b=2)
    ranges = replace(MEANS_ALONE, share=torch.tensor([0.0, 1.0]), location=torch.tensor([5.0, 1.0]))
    moves = draw_moves(image.shape, 3, ranges)
    result = apply_moves(image, classes, 3, moves)
    assert torch.equal(result[0], image[0]) and not torch.equal(result[1], image[1])


def test_the_same_numbers_make_the_same_move():
    image, classes = sample()
    assert torch.equal(moved_by(image, classes, EVERYTHING), moved_by(image, classes, EVERYTHING))
    assert not torch.equal(moved_by(image, classes, EVERYTHING), moved_by(image, classes, EVERYTHING, seed=2))


def test_voxels_without_a_class_of_their_own_do_not_turn_to_what_is_no_number():
    image, classes = sample(b=1)
    classes[:] = 1  # no background, no class 2
    assert moved_by(image, classes, EVERYTHING).isfinite().all()


def test_every_voxel_is_moved_by_the_formula():
    image, classes = sample()
    moves = draw_moves(image.shape, 3, MoveRanges(share=0.5), generator=torch.Generator().manual_seed(3))
    result = apply_moves(image, classes, 3, moves, [False, False])
    for s, c in np.ndindex(image.shape[:2]):
        f, labels, last = image[s, c], classes[s, 0], int(moves.knots[s]) - 1
        place = ((f - f.mean()) / (SPAN * f.std()) + 0.5).clamp(0, 1)
        curve = torch.from_numpy(np.interp(place * last, np.arange(last + 1), moves.curve[s, c, : last + 1])).float()
        for k in labels.unique():
            inside = labels == k
            from_mean = (f - f[inside].mean())[inside]
            factor = torch.where(from_mean > 0, moves.above[s, c, k], moves.below[s, c, k])
            shift = f.std() * (moves.location[s, c, k] + moves.follows[s, 0, k] * curve[inside])
            expected = f[inside] + moves.moved[s] * (shift + (factor - 1) * from_mean)
            torch.testing.assert_close(result[s, c][inside], expected.flatten(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("shape", [(9, 7), (2, 1), (5, 4, 3)])
def test_shifts_are_averaged_with_the_neighbours_that_are_there(shape):
    image, ones = torch.randn(2, 2, *shape), torch.zeros(2, 1, *shape, dtype=torch.long)
    moves = draw_moves(image.shape, 1, replace(EVERYTHING, texture=0.0), generator=torch.Generator().manual_seed(0))
    shift, expected = (apply_moves(image, ones, 1, moves, axes) - image for axes in (None, [False] * len(shape)))
    average = F.avg_pool3d if len(shape) == 3 else F.avg_pool2d
    for axis, n in enumerate(shape):
        size = [3 if i == axis and n > 1 else 1 for i in range(len(shape))]
        for _ in range(SMOOTHING):
            expected = average(expected, size, 1, [s // 2 for s in size], count_include_pad=False)
    torch.testing.assert_close(shift, expected, atol=1e-5, rtol=1e-4)
