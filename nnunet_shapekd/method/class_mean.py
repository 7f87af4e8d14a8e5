"""The class-mean image: every class replaced by its mean intensity, so that only shape and intensity remain.

Step 1 of shape-intensity knowledge distillation (Dong, Du, Xu, Front. Comput. Sci. 19(9):199705, 2025;
arXiv 2409.17503): for one sample ``f`` with classes ``X_k``, ``f_m(x)`` is the mean of ``f`` over the class of ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager


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

    count = sum_per_label(torch.ones_like(x[:, :1]), labels, num_labels)
    # Dividing each voxel by its class's size before adding keeps sums of huge intensities finite. Absent classes have
    # count 0 and are never looked up.
    mean = sum_per_label(x / of_each_voxel(count, labels), labels, num_labels)
    result = of_each_voxel(mean, labels).reshape(image.shape)
    return (result if image.is_floating_point() else result.round()).to(image.dtype)


def of_each_voxel(per_label: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each voxel's entry: ``(b, n, num_labels)`` and ``(b, 1, rows, length)`` int64 -> ``(b, n, rows, length)``."""
    index = labels.expand(-1, per_label.shape[1], -1, -1).flatten(2)
    return per_label.gather(-1, index).unflatten(-1, labels.shape[2:])


def sum_per_label(values: torch.Tensor, labels: torch.Tensor, num_labels: int) -> torch.Tensor:
    """Add up the values of each label, in every sample and channel.

    Row by row first: float32 keeps its precision over millions of voxels (adding one by one does not), and a GPU's
    atomics do not all meet in the same few bins.

    Args:
        values: ``(b, n, rows, length)`` float.
        labels: ``(b, 1, rows, length)`` int64, 0 to ``num_labels - 1``.
        num_labels: one more than the largest label that can occur.

    Returns:
        ``(b, n, num_labels)``, dtype and device of ``values``.
    """
    rows = values.new_zeros(*values.shape[:3], num_labels)
    return rows.scatter_add_(-1, labels.expand_as(values), values).sum(2)


class VoxelClasses:
    """What a "class" is for each kind of target: a number 0 to ``number - 1`` for every voxel.

    - plain labels: the label itself;
    - regions: the set of regions a voxel belongs to, numbered;
    - an ignore label: one class more, of its own.

    Args:
        labels: all label values, the background's 0 among them.
        regions: the label values of each region, in the order of the network's channels; ``None`` for plain labels.
        ignore_label: value of the voxels that count nowhere, if there is one.

    Raises:
        NotImplementedError: for more than 62 regions.
    """

    def __init__(
        self,
        labels: Sequence[int],
        regions: Sequence[Sequence[int]] | None = None,
        ignore_label: int | None = None,
    ) -> None:
        self.has_regions = regions is not None
        self.ignore_label = ignore_label
        self.number = int(max([*labels, ignore_label or 0])) + 1
        #: the class of ignored voxels, ``None`` if there are none
        self.ignored = ignore_label
        if regions is None:
            return
        # as nnU-Net's ConvertSegmentationToRegionsTransform is called: the ignore label is the last "region"
        regions = [*regions, *([(ignore_label,)] if ignore_label is not None else [])]
        if len(regions) > 62:
            raise NotImplementedError(
                f"A voxel's set of regions is kept in the bits of one 64-bit integer, so there may be 62 regions "
                f"(the ignore label counts as one); this dataset has {len(regions)}."
            )
        values = torch.arange(self.number)
        membership = torch.stack([torch.isin(values, torch.tensor(region)) for region in regions])  # (R, labels)
        code = _region_code(membership[None])[0, 0]  # (labels,)
        self._codes = code.unique()
        self.number = len(self._codes)
        self._class_of_label = torch.searchsorted(self._codes, code)
        if ignore_label is not None:
            self.ignored = int(self._class_of_label[ignore_label])

    @classmethod
    def of_dataset(cls, label_manager: LabelManager) -> VoxelClasses:
        """Those of a dataset, from nnU-Net's manager of its labels."""
        regions = None
        if label_manager.has_regions:
            regions = [r if isinstance(r, tuple) else (r,) for r in label_manager.foreground_regions]
        return cls(label_manager.all_labels, regions, label_manager.ignore_label)

    def of_target(self, target: torch.Tensor) -> torch.Tensor:
        """Classes of a target as nnU-Net's data loaders deliver it.

        Args:
            target: ``(b, 1, x, y[, z])`` labels, or with regions ``(b, R[+1 for ignore], x, y[, z])`` of 0 and 1, any
                dtype.

        Returns:
            ``(b, 1, x, y[, z])`` int64.
        """
        if not self.has_regions:
            return target.long()
        if self._codes.device != target.device:  # once: copying in every step would make a GPU wait
            self._codes = self._codes.to(target.device)
        return torch.searchsorted(self._codes, _region_code(target))

    def of_label_map(self, labels: torch.Tensor) -> torch.Tensor:
        """Classes of a label map as nnU-Net's preprocessed files hold it, -1 for "outside" included.

        Args:
            labels: ``(b, 1, x, y[, z])``, any dtype.

        Returns:
            ``(b, 1, x, y[, z])`` int64.
        """
        labels = labels.long().clamp_min(0)
        return self._class_of_label.to(labels.device)[labels] if self.has_regions else labels

    def ignored_as_background(self, classes: torch.Tensor) -> torch.Tensor:
        """Classes of any shape, int64, with those of ignored voxels as 0: nobody knows what they are."""
        return classes if self.ignored is None else classes.where(classes != self.ignored, 0)

    def valid(self, target: torch.Tensor) -> torch.Tensor | None:
        """Where a target as the data loaders deliver it is not ignored: ``(b, 1, x, y[, z])`` bool, None for all."""
        if self.ignore_label is None:
            return None
        return target[:, -1:] == 0 if self.has_regions else target != self.ignore_label


def _region_code(regions: torch.Tensor) -> torch.Tensor:
    """``(b, R, *)`` of 0 and 1 -> ``(b, 1, *)`` int64, one bit a region."""
    code = regions[:, :1].long()
    for region in regions.split(1, dim=1)[1:]:
        code = 2 * code + region.long()
    return code
