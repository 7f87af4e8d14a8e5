import pytest
import torch

from nnunet_shapekd.method.class_mean import class_mean_image
from nnunet_shapekd.training.cost import LiveBytes


def plain_loop(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The definition, written out: an independent implementation in float64."""
    result = torch.empty_like(image, dtype=torch.float64)
    for b in range(image.shape[0]):
        for c in range(image.shape[1]):
            for label in target[b].unique():
                region = target[b, 0] == label
                result[b, c][region] = image[b, c][region].double().mean()
    return result


def test_two_by_two_image_by_hand():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 8.0]]]])
    target = torch.tensor([[[[0, 1], [1, 1]]]])
    expected = torch.tensor([[[[1.0, 13 / 3], [13 / 3, 13 / 3]]]])
    torch.testing.assert_close(class_mean_image(image, target), expected)


@pytest.mark.parametrize("shape", [(3, 2, 8, 10), (2, 1, 4, 6, 5), (1, 4, 1, 1)])
@pytest.mark.parametrize("target_dtype", [torch.int16, torch.uint8, torch.float32, torch.int64])
def test_equals_a_plain_loop_over_samples_channels_and_classes(shape, target_dtype):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator)
    target = torch.randint(0, 5, (shape[0], 1, *shape[2:]), generator=generator).to(target_dtype)
    torch.testing.assert_close(class_mean_image(image, target), plain_loop(image, target).float())


def test_samples_and_channels_have_their_own_means():
    image = torch.tensor([1.0, 10.0, 100.0, 1000.0]).reshape(2, 2, 1, 1).expand(2, 2, 4, 4)
    target = torch.zeros(2, 1, 4, 4, dtype=torch.int16)
    torch.testing.assert_close(class_mean_image(image, target), image.contiguous())


def test_it_is_its_own_class_mean():
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 3, (2, 1, 16, 16), generator=generator)
    once = class_mean_image(torch.randn(2, 1, 16, 16, generator=generator), target)
    torch.testing.assert_close(class_mean_image(once, target), once)


@pytest.mark.parametrize("value", [0.0, -3e38, 3e38, 1e-30])
def test_single_class_of_any_size_of_intensity_stays_finite(value):
    image = torch.full((1, 1, 64, 64), value)
    result = class_mean_image(image, torch.zeros(1, 1, 64, 64, dtype=torch.int16))
    assert result.isfinite().all()
    torch.testing.assert_close(result, image)


def test_huge_intensities_of_both_signs_cancel_without_nan():
    image = torch.tensor([3e38, -3e38] * 8).reshape(1, 1, 4, 4)
    assert class_mean_image(image, torch.zeros(1, 1, 4, 4, dtype=torch.int16)).abs().max() < 1e32


def test_one_voxel_class_keeps_its_value_exactly():
    image = torch.rand(1, 1, 9, 9)
    target = torch.zeros(1, 1, 9, 9, dtype=torch.int16)
    target[0, 0, 4, 4] = 3
    assert class_mean_image(image, target)[0, 0, 4, 4] == image[0, 0, 4, 4]


def test_absent_classes_change_nothing():
    image = torch.rand(1, 1, 6, 6)
    target = (torch.arange(36).reshape(1, 1, 6, 6) % 2) * 7
    result = class_mean_image(image, target, num_labels=20)
    assert result.isfinite().all()
    torch.testing.assert_close(result, plain_loop(image, target).float())


def test_negative_labels_count_as_background():
    image = torch.rand(1, 1, 6, 6)
    target = torch.zeros(1, 1, 6, 6, dtype=torch.int16)
    marked = target.clone()
    marked[..., :2] = -1
    torch.testing.assert_close(class_mean_image(image, marked), class_mean_image(image, target))


def test_an_ignored_region_is_a_region_of_its_own():
    image = torch.rand(1, 1, 6, 6)
    target = torch.zeros(1, 1, 6, 6, dtype=torch.int16)
    target[..., 3:] = 4  # the ignore label
    result = class_mean_image(image, target, num_labels=5)
    torch.testing.assert_close(result[..., :3], image[..., :3].mean().expand(1, 1, 6, 3))
    assert result[..., 3:].unique().numel() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_result_has_the_images_type_and_half_precision_sums_do_not_overflow(dtype):
    image = torch.full((1, 1, 256, 256), 1000.0, dtype=dtype)  # the sum, 6.6e7, is beyond float16
    result = class_mean_image(image, torch.zeros(1, 1, 256, 256, dtype=torch.int16))
    assert result.dtype == dtype
    torch.testing.assert_close(result, image)


def test_integer_images_get_the_rounded_mean():
    image = torch.tensor([[[[1, 2, 2]]]], dtype=torch.int16)
    result = class_mean_image(image, torch.zeros(1, 1, 1, 3, dtype=torch.uint8))
    assert result.dtype == torch.int16
    assert result.tolist() == [[[[2, 2, 2]]]]


def test_mean_over_many_voxels_keeps_float32_precision():
    image = torch.full((1, 1, 128, 256, 256), 0.1)  # adding 8 million of them one by one is off by 6 %
    result = class_mean_image(image, torch.zeros(1, 1, 128, 256, 256, dtype=torch.int16))
    torch.testing.assert_close(result, image, rtol=1e-5, atol=0)


def test_inputs_are_untouched_even_when_they_are_views():
    image = torch.rand(2, 4, 6, 1).permute(0, 3, 1, 2)
    target = torch.randint(-1, 3, (2, 4, 6, 1)).permute(0, 3, 1, 2)
    before = image.clone(), target.clone()
    class_mean_image(image, target)
    assert torch.equal(image, before[0]) and torch.equal(target, before[1])


@pytest.mark.parametrize(
    ("image_shape", "target_shape"),
    [((2, 1, 4, 4), (2, 4, 4)), ((2, 1, 4, 4), (1, 1, 4, 4)), ((2, 1, 4, 4), (2, 2, 4, 4)), ((4, 4), (4, 4))],
)
def test_shapes_that_do_not_belong_together_are_named(image_shape, target_shape):
    with pytest.raises(ValueError, match="got image .* and target"):
        class_mean_image(torch.zeros(image_shape), torch.zeros(target_shape, dtype=torch.int16))


def test_an_image_without_voxels_is_refused():
    with pytest.raises(ValueError, match="at least one voxel"):
        class_mean_image(torch.zeros(1, 1, 0, 4), torch.zeros(1, 1, 0, 4, dtype=torch.int16))


def test_with_the_number_of_labels_given_nothing_waits_for_a_gpu():
    # meta tensors have no values: whatever looked at one would fail
    image, target = torch.empty(2, 1, 8, 8, device="meta"), torch.empty(2, 1, 8, 8, dtype=torch.int16, device="meta")
    assert class_mean_image(image, target, num_labels=4).shape == image.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        class_mean_image(image, target)


def test_memory_does_not_grow_with_the_number_of_labels_as_voxels_times_labels_would():
    def peak(num_labels: int) -> int:
        live = LiveBytes()
        with live:
            class_mean_image(
                torch.zeros(1, 1, 16, 64, 64), torch.zeros(1, 1, 16, 64, 64, dtype=torch.uint8), num_labels
            )
        return live.peak

    voxels_times_labels = 4 * 16 * 64 * 64 * (100 - 2)
    assert peak(100) - peak(2) < voxels_times_labels / 10
