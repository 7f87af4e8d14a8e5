"""Shifts of the whole image, as a scanner, its settings or a camera make them; none knows the labels.

Each is a function of scaled intensities (channels, x, y, z) float32, the shift's size and the scene; it returns others.

TorchIO makes gamma, noise, blur and bias field: its transforms take a fixed parameter, a blur in mm and a seed.
Ghosting is NumPy's, because TorchIO's is up to twice as strong for one size of the image as for another. Contrast and
low resolution are batchgeneratorsv2's, so nnU-Net's own: TorchIO (1.2) has no contrast, and its resampling there and
back leaves an edge black where the scale does not divide the image's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnunet_shapekd.stress.scene import Scene

if TYPE_CHECKING:
    import torchio

PERCENTILES = (0.5, 99.5)
#: every n-th line of k-space but the middle one is what ghosting weakens: the ghosts lie n-ths of the image apart
GHOSTS = 4
BIAS_ORDER = 2
#: of a bias field within the body: so far apart are its bright places, where it is 1, and its dark ones
BIAS_PERCENTILES = (5, 95)


def ends(values: np.ndarray) -> tuple[float, float]:
    """The intensities that become 0 and 1; equal only where all are."""
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def gamma(image: np.ndarray, gamma: float, scene: Scene) -> np.ndarray:
    import torchio

    # of each colour's own range, and within it
    low, high = np.array([ends(colour) for colour in image], dtype=np.float32).T[..., None, None, None]
    width = np.maximum(high - low, 1e-6)
    bent = low + width * _torchio(torchio.Gamma(gamma), (image - low) / width, scene)
    return np.clip(bent, image.min((1, 2, 3), keepdims=True), image.max((1, 2, 3), keepdims=True))


def contrast(image: np.ndarray, factor: float, scene: Scene) -> np.ndarray:
    import torch
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform

    # about each colour's own mean, and within its own range
    transform = ContrastTransform(factor, preserve_range=True, synchronize_channels=True)
    return transform(image=torch.from_numpy(image.copy()))["image"].numpy()


def noise(image: np.ndarray, sd: float, scene: Scene) -> np.ndarray:
    import torchio

    drawn = _torchio(torchio.Noise(0, 1, (scene.seed + scene.channel) % 2**32), np.zeros_like(image), scene)
    return image + sd * image.std((1, 2, 3), keepdims=True) * drawn  # of each colour's own sd


def blur(image: np.ndarray, sigma: float, scene: Scene) -> np.ndarray:
    import torchio

    axes = scene.smooth_axes(image.shape[1:])
    sigma_mm = sigma * min(scene.spacing[axis] for axis in axes)
    return _torchio(torchio.Blur(tuple(sigma_mm if axis in axes else 0.0 for axis in range(3))), image, scene)


def low_resolution(image: np.ndarray, scale: float, scene: Scene) -> np.ndarray:
    import torch
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform

    smooth = [axis for axis in scene.smooth_axes(image.shape[1:]) if round(image.shape[1 + axis] * scale) >= 1]
    kept = tuple({0, 1, 2} - set(smooth))
    transform = SimulateLowResolutionTransform(scale, True, True, ignore_axes=kept or None)
    return transform(image=torch.from_numpy(image.copy()))["image"].numpy()


def bias_field(image: np.ndarray, ratio: float, scene: Scene) -> np.ndarray:
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


def ghosting(image: np.ndarray, intensity: float, scene: Scene) -> np.ndarray:
    axis = 1 + int(np.random.default_rng(scene.seed).choice(scene.smooth_axes(image.shape[1:])))
    # counted from the middle of k-space: from its edge, as TorchIO's Ghosting does, the ghosts' strength depends on the
    # remainder of the image's size by 8
    line = np.fft.fftfreq(image.shape[axis], 1 / image.shape[axis]).round()
    weakened = (line % GHOSTS == 0) & (line != 0)
    factor = np.where(weakened, 1 - intensity, 1).reshape([-1 if i == axis else 1 for i in range(image.ndim)])
    return np.fft.ifft(np.fft.fft(image, axis=axis) * factor, axis=axis).real.astype(np.float32)


def _torchio(transform: torchio.IntensityTransform, image: np.ndarray, scene: Scene) -> np.ndarray:
    import torch
    import torchio

    tensor = torch.from_numpy(image)
    return transform(torchio.ScalarImage(tensor=tensor, affine=np.diag([*scene.spacing, 1.0]))).numpy()
