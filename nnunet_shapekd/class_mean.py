"""The class-mean image: every class replaced by its mean intensity, so that only shape and intensity remain.

Step 1 of shape-intensity knowledge distillation (Dong, Du, Xu, Front. Comput. Sci. 19(9):199705, 2025;
arXiv 2409.17503): for one sample ``f`` with classes ``X_k``, ``f_m(x)`` is the mean of ``f`` over the class of ``x``.
"""

from __future__ import annotations

import torch


def class_mean_image(image: torch.Tensor, target: torch.Tensor, num_labels: int | None = None) -> torch.Tensor:
    """Replace every voxel by the mean, over its own sample and channel, of the voxels that carry the same label.

    An ignore label needs no special case: its voxels are one region of their own, out of every other mean, and no
    texture leaks in.

    Args:
        image: ``(b, c, x, y[, z])``, any real dtype. Never modified.
        target: ``(b, 1, x, y[, z])``, whole-numbered labels of any dtype. Negative labels count as 0 (nnU-Net's
            preprocessed files mark voxels outside the non-zero region with -1).
        num_labels: one more than the largest label that can occur. Giving it spares the GPU a synchronisation with the
            host; a larger label in ``target`` is then an error of the caller. ``None`` reads it from ``target``.

    Returns:
        The class-mean image: shape, dtype and device of ``image``. Means are accumulated in float32 (in float64 for
        float64 images); integer images get the rounded mean.

    Raises:
        ValueError: if the shapes do not belong together or there is no voxel.
    """
    if image.ndim < 3 or target.shape != (image.shape[0], 1, *image.shape[2:]):
        raise ValueError(
            f"class_mean_image needs an image (b, c, x, y[, z]) and integer labels (b, 1, x, y[, z]) on the same grid; "
            f"got image {tuple(image.shape)} and target {tuple(target.shape)}"
        )
    if image.numel() == 0:
        raise ValueError(f"class_mean_image needs at least one voxel; got image {tuple(image.shape)}")

    labels = target.long().clamp_min(0)
    if num_labels is None:
        num_labels = int(labels.max()) + 1

    b, c, *spatial = image.shape
    x = image.to(torch.promote_types(image.dtype, torch.float32)).reshape(b, c, -1, spatial[-1])  # (b, c, rows, length)
    labels = labels.reshape(b, 1, -1, spatial[-1])  # (b, 1, rows, length)

    def sum_per_label(values: torch.Tensor) -> torch.Tensor:
        """(b, n, rows, length) -> (b, n, labels). Row by row first: float32 keeps its precision over millions of
        voxels (adding one by one does not), and a GPU's atomics do not all meet in the same few bins."""
        rows = values.new_zeros(*values.shape[:3], num_labels)
        return rows.scatter_add_(-1, labels.expand_as(values), values).sum(2)

    def of_each_voxel(per_label: torch.Tensor) -> torch.Tensor:
        """(b, n, labels) -> (b, n, rows, length): each voxel's entry."""
        index = labels.expand(-1, per_label.shape[1], -1, -1).flatten(2)
        return per_label.gather(-1, index).unflatten(-1, x.shape[2:])

    count = sum_per_label(torch.ones_like(x[:, :1]))
    # Dividing each voxel by its class's size before adding keeps sums of huge intensities finite. Absent classes have
    # count 0 and are never looked up.
    mean = sum_per_label(x / of_each_voxel(count))
    result = of_each_voxel(mean).reshape(image.shape)
    return (result if image.is_floating_point() else result.round()).to(image.dtype)
