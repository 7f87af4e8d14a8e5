"""Graded shifts of an image's appearance: what another scanner, protocol or camera may do to it.

Of a shift and severity the *size* is fixed, in the table ``SHIFTS``; only the *pattern* (which noise, which bias field,
along which axis) is drawn, from a seed that the case and the shift determine. It is the same for every severity and
every model, in any process and in any order.

nnU-Net trains with some of these shifts itself. Severity 1 of those is the end of the range it draws from, for images
whose channels it normalises by their own mean and standard deviation; severities 2 to 4 lie beyond. The other
shifts (``trained=None``) are none of its default augmentation.

Intensities: every file is scaled so that its 0.5th percentile is 0 and its 99.5th is 1 (a picture's colours together,
but noise and contrast are by each colour's own mean and standard deviation and gamma by its own percentiles, as nnU-Net
treats them), shifted, scaled back and clipped to the range it had. nnU-Net's z-score takes back whatever is linear in
an image: a contrast shift is felt by what it clips.

TorchIO makes gamma, noise, blur and bias field: its transforms take a fixed parameter, a blur in mm and a seed.
Ghosting is NumPy's, because TorchIO's is up to twice as strong for one size of the image as for another. Contrast and
low resolution are batchgeneratorsv2's, so nnU-Net's own: TorchIO (1.2) has no contrast, and its resampling there and
back leaves an edge black where the scale does not divide the image's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from nnunet_shapekd.files import images
from nnunet_shapekd.files.images import Image

if TYPE_CHECKING:
    import torchio

PERCENTILES = (0.5, 99.5)
#: nnU-Net's: slices that are so many times farther apart than their pixels are a stack of pictures
ANISOTROPY = 3
#: every n-th line of k-space but the middle one is what ghosting weakens: the ghosts lie n-ths of the image apart
GHOSTS = 4
BIAS_ORDER = 2
#: of a bias field within the body: so far apart are its bright places, where it is 1, and its dark ones
BIAS_PERCENTILES = (5, 95)
#: width of the ring around a structure that counts as its surroundings, in pixels
RING = 5


@dataclass(frozen=True)
class Scene:
    """What a shift may know besides the intensities.

    Attributes:
        spacing: of the axes (x, y, z), in mm or pixels; an axis of one voxel is a picture's third.
        seed: of the pattern.
        channel: number of the image file; only noise differs between a case's files.
        mask: (x, y, z) bool, the structure to invert.
    """

    spacing: tuple[float, float, float]
    seed: int
    channel: int = 0
    mask: np.ndarray | None = None

    def smooth_axes(self, shape: tuple[int, ...]) -> list[int]:
        """The axes in which the image is a continuous picture: in a stack of thick slices not the one across them."""
        long = [axis for axis in range(3) if shape[axis] > 1]
        fine = min(self.spacing[axis] for axis in long)
        return [axis for axis in long if len(long) < 3 or self.spacing[axis] < ANISOTROPY * fine]


def _torchio(transform: torchio.IntensityTransform, image: np.ndarray, scene: Scene) -> np.ndarray:
    import torch
    import torchio

    tensor = torch.from_numpy(image)
    return transform(torchio.ScalarImage(tensor=tensor, affine=np.diag([*scene.spacing, 1.0]))).numpy()


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The intensities that become 0 and 1; equal only where all are."""
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _gamma(image: np.ndarray, gamma: float, scene: Scene) -> np.ndarray:
    import torchio

    # of each colour's own range, and within it
    low, high = np.array([_ends(colour) for colour in image], dtype=np.float32).T[..., None, None, None]
    width = np.maximum(high - low, 1e-6)
    bent = low + width * _torchio(torchio.Gamma(gamma), (image - low) / width, scene)
    return np.clip(bent, image.min((1, 2, 3), keepdims=True), image.max((1, 2, 3), keepdims=True))


def _contrast(image: np.ndarray, factor: float, scene: Scene) -> np.ndarray:
    import torch
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform

    # about each colour's own mean, and within its own range
    transform = ContrastTransform(factor, preserve_range=True, synchronize_channels=True)
    return transform(image=torch.from_numpy(image.copy()))["image"].numpy()


def _noise(image: np.ndarray, sd: float, scene: Scene) -> np.ndarray:
    import torchio

    drawn = _torchio(torchio.Noise(0, 1, (scene.seed + scene.channel) % 2**32), np.zeros_like(image), scene)
    return image + sd * image.std((1, 2, 3), keepdims=True) * drawn  # of each colour's own sd


def _blur(image: np.ndarray, sigma: float, scene: Scene) -> np.ndarray:
    import torchio

    axes = scene.smooth_axes(image.shape[1:])
    sigma_mm = sigma * min(scene.spacing[axis] for axis in axes)
    return _torchio(torchio.Blur(tuple(sigma_mm if axis in axes else 0.0 for axis in range(3))), image, scene)


def _low_resolution(image: np.ndarray, scale: float, scene: Scene) -> np.ndarray:
    import torch
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform

    smooth = [axis for axis in scene.smooth_axes(image.shape[1:]) if round(image.shape[1 + axis] * scale) >= 1]
    kept = tuple({0, 1, 2} - set(smooth))
    transform = SimulateLowResolutionTransform(scale, True, True, ignore_axes=kept or None)
    return transform(image=torch.from_numpy(image.copy()))["image"].numpy()


def _bias_field(image: np.ndarray, ratio: float, scene: Scene) -> np.ndarray:
    import torchio

    shape = np.array(image.shape[1:])
    length = shape * scene.spacing
    reach = np.where(shape > 1, length / length.max(), 0)  # TorchIO's axes all go from -1 to 1
    orders = [
        (x, y, z)
        for x in range(BIAS_ORDER + 1)
        for y in range(BIAS_ORDER + 1 - x)
        for z in range(BIAS_ORDER + 1 - x - y)
    ]
    drawn = np.random.default_rng(scene.seed).uniform(-1, 1, len(orders))
    coefficients = [float(c * np.prod(reach**order)) for c, order in zip(drawn, np.array(orders), strict=True)]
    logarithm = np.log(torchio.BiasField.generate_bias_field(image, BIAS_ORDER, coefficients))
    # of what is brighter than the mean, the body: a polynomial's extremes lie in a corner, where there is only air
    dark, bright = np.percentile(logarithm[image.mean(axis=0) > image.mean()], BIAS_PERCENTILES)
    return image * np.exp(np.log(ratio) * (logarithm - bright) / max(bright - dark, 1e-6)).astype(np.float32)


def _ghosting(image: np.ndarray, intensity: float, scene: Scene) -> np.ndarray:
    axis = 1 + int(np.random.default_rng(scene.seed).choice(scene.smooth_axes(image.shape[1:])))
    # counted from the middle of k-space: from its edge, as TorchIO's Ghosting does, the ghosts' strength depends on the
    # remainder of the image's size by 8
    line = np.fft.fftfreq(image.shape[axis], 1 / image.shape[axis]).round()
    weakened = (line % GHOSTS == 0) & (line != 0)
    factor = np.where(weakened, 1 - intensity, 1).reshape([-1 if i == axis else 1 for i in range(image.ndim)])
    return np.fft.ifft(np.fft.fft(image, axis=axis) * factor, axis=axis).real.astype(np.float32)


def _inversion(image: np.ndarray, contrast: float, scene: Scene) -> np.ndarray:
    if scene.mask is None:
        raise ValueError("the shift inversion needs to know the structure: name its class with --invert")
    axes = scene.smooth_axes(image.shape[1:])
    step = ndimage.generate_binary_structure(3, 1)
    for axis in {0, 1, 2} - set(axes):
        step &= np.moveaxis(np.array([False, True, False])[:, None, None], 0, axis)
    ring = ndimage.binary_dilation(scene.mask, step, iterations=RING) & ~scene.mask
    if not scene.mask.any() or not ring.any():
        return image
    # a border as soft as partial volume makes it
    weight = ndimage.gaussian_filter(scene.mask.astype(np.float32), [float(axis in axes) for axis in range(3)])
    differs = np.array([channel[scene.mask].mean() - channel[ring].mean() for channel in image], dtype=np.float32)
    return image + (contrast - 1) * differs[:, None, None, None] * weight


@dataclass(frozen=True)
class Shift:
    """One kind of shift.

    Attributes:
        title: for pictures.
        parameter: what its values mean.
        values: of the severities 1, 2, 3 and 4.
        trained: nnU-Net's range of the parameter in training (2.8, default augmentation); None: it has no such shift.
        apply: (channels, x, y, z) scaled intensities, value, scene -> shifted intensities.
    """

    title: str
    parameter: str
    values: tuple[float, float, float, float]
    trained: str | None
    apply: Callable[[np.ndarray, float, Scene], np.ndarray]


#: Every shift, its sizes, and whether nnU-Net trains with it.
SHIFTS = {
    "gamma-dark": Shift("gamma, darker", "exponent", (1.5, 2, 3, 4), "0.7 to 1.5", _gamma),
    "gamma-bright": Shift("gamma, brighter", "exponent", (0.7, 0.5, 0.35, 0.25), "0.7 to 1.5", _gamma),
    "contrast": Shift("contrast, clipped", "factor", (1.25, 2, 3, 5), "0.75 to 1.25", _contrast),
    "noise": Shift("Gaussian noise", "sd / image's sd", (0.1, 0.25, 0.5, 1), "0 to 0.1", _noise),
    "blur": Shift("blur", "sigma in pixels", (1, 2, 3, 4), "0.5 to 1", _blur),
    "low-resolution": Shift("low resolution", "scale", (0.5, 0.33, 0.25, 0.17), "0.5 to 1", _low_resolution),
    "bias-field": Shift("bias field", "bright / dark", (1.5, 2.5, 5, 10), None, _bias_field),
    "ghosting": Shift("ghosting", "lines weakened by", (0.25, 0.5, 0.75, 1), None, _ghosting),
    "inversion": Shift("inversion of a structure", "contrast to around", (0.5, 0, -0.5, -1), None, _inversion),
}
SEVERITIES = (0, 1, 2, 3, 4)
#: name of what severity 0 is, which all shifts share
UNSHIFTED = "none"


def size_of(shift: str, severity: int) -> float | None:
    """The shift's parameter; None for the image itself."""
    return SHIFTS[shift].values[severity - 1] if severity else None


def seed_of(case: str, shift: str, seed: int = 0) -> int:
    """The seed of a shift's pattern in a case, below 2**32; Python's own hash differs between processes."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{case}\n{shift}".encode()).digest()[:4], "little")


def shifted(values: np.ndarray, shift: str, severity: int, scene: Scene) -> np.ndarray:
    """An image's intensities after a shift.

    Args:
        values: (channels, x, y, z) of any type.
        shift: a name in ``SHIFTS``.
        severity: 0 (the image itself) to 4.
        scene: what the shift may know besides.

    Returns:
        (channels, x, y, z) float32, or float64 where the type has more digits than float32, within the range of
        ``values``; an image of one value stays what it is.
    """
    original = values.astype(np.result_type(values, np.float32))
    low, high = _ends(original)
    if severity == 0 or high <= low:
        return original
    scaled = ((original - low) / (high - low)).astype(np.float32)
    changed = np.asarray(SHIFTS[shift].apply(scaled, size_of(shift, severity), scene), dtype=original.dtype)
    return np.clip(changed * (high - low) + low, float(original.min()), float(original.max()))


@dataclass(frozen=True)
class ImageFile:
    """An image file of nnU-Net's: one channel, or a picture's colours.

    Attributes:
        values: (channels, x, y, z) in the file's type; of a picture (colours, rows, columns, 1).
        spacing: of the last three axes.
        file: as it was read, with the geometry, and the opacity of a picture that has one.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    file: Image


def as_volume(image: Image) -> np.ndarray:
    """A file's axes (z, y, x), (y, x) or, of a picture, (rows, columns) as (x, y, z); of its first channel."""
    array = image.values if image.channels == 1 else image.values[..., 0]
    array = array if image.is_picture else array.T
    return array[..., None] if array.ndim == 2 else array


def read_image(path: Path, reader: str | None = None) -> ImageFile:
    """Read an image file.

    Raises:
        ValueError: if it cannot be read, is no image of two or three axes, holds values that are not finite, or is a
            picture of one bit.
    """
    image = images.read_image(path, reader=reader)
    if image.values.dtype == bool:  # would be written as 0 and 255, where nnU-Net reads 0 and 1
        raise ValueError(f"{path}: expected grey or colours, got a picture of one bit; save it in 8 bits")
    if image.channels not in ((1, 3, 4) if image.is_picture else (1,)) or len(image.shape) not in (2, 3):
        raise ValueError(
            f"{path}: expected two or three axes and one channel, or a picture in grey, RGB or RGBA, got "
            f"{len(image.shape)} axes and {image.channels} channels"
        )
    if image.channels == 1:
        return ImageFile(as_volume(image)[None], (*image.spacing[::-1], 1.0)[:3], image)
    return ImageFile(np.moveaxis(image.values[..., :3], -1, 0)[..., None], (1.0, 1.0, 1.0), image)


def write_image(values: np.ndarray, like: ImageFile, path: Path) -> None:
    """Write intensities in another image's type and geometry.

    Args:
        values: (channels, x, y, z), within the range of ``like``.
        like: the image they were made of.
        path: the file.
    """
    kind = like.values.dtype
    values = (np.rint(values) if kind.kind in "iub" else values).astype(kind)
    if like.file.is_picture:
        from skimage.io import imsave

        array = np.moveaxis(values[..., 0], 0, -1)
        array = array[..., 0] if array.shape[-1] == 1 else array
        array = np.dstack([array, like.file.values[..., 3]]) if like.file.channels == 4 else array
        imsave(path, array, check_contrast=False)
        return
    array = values[0] if len(like.file.shape) == 3 else values[0, ..., 0]
    images.write_image(np.ascontiguousarray(array.T), like.file, path, compress=path.name.endswith(".gz"))
