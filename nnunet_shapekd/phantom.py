"""A synthetic short-axis cardiac cine MRI in the ACDC challenge's folder layout, imaged by different scanners.

Anatomy depends only on (seed, patient number), appearance only on the scanner, so one patient imaged by two scanners
is a domain shift with the same labels. The pictures are plausible, not physiological: they test code, not methods.

Coordinates are mm from the centre of the field of view, x to the right and y down; slice 0 is the base, as in ACDC.
Every structure is a function phi, about the signed distance (mm) to its border, negative inside: the label is its
sign at the voxel's centre, the image its border blurred by the scanner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, label

# Per group: basal radius of the LV cavity and LV wall thickness at end diastole (mm), width of the RV beside the
# septum (mm), ejection fractions of LV and RV; each a range.
GROUPS: dict[str, tuple[tuple[float, float], ...]] = {
    "NOR": ((24, 28), (8.0, 10.0), (24, 30), (0.52, 0.66), (0.45, 0.60)),
    "MINF": ((27, 32), (8.0, 9.5), (22, 28), (0.25, 0.40), (0.40, 0.55)),
    "DCM": ((32, 37), (7.0, 8.5), (24, 32), (0.15, 0.32), (0.25, 0.45)),
    "HCM": ((22, 25), (11.5, 15.0), (20, 26), (0.62, 0.75), (0.50, 0.65)),
    "RV": ((22, 26), (8.0, 9.5), (34, 42), (0.45, 0.62), (0.20, 0.38)),
}
FIRST_TEST_PATIENT = 101  # as in ACDC, whose test patients are 101..150
Layers = list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Scanner:
    """How anatomy becomes an image; intensities are in units of 0..1000 before the gain.

    Attributes:
        name: the key in `SCANNERS`; bias field and noise are drawn from it.
        contrast: mean intensity of each tissue.
        gain: factor on everything, noise included.
        bias: strength of the smooth multiplicative field (standard deviation of its logarithm).
        noise: standard deviation of the Rician noise.
        spacing_mm: in-plane voxel size before the patient's own zoom.
        resolution_mm: width over which a border is blurred.
        wall_spread: standard deviation of the myocardium's own patches, a share of its intensity.
    """

    name: str
    contrast: Mapping[str, float]
    gain: float
    bias: float
    noise: float
    spacing_mm: float
    resolution_mm: float
    wall_spread: float = 0.0


SCANNERS: dict[str, Scanner] = {
    # Bright blood and fat, dark muscle: the steady-state free precession contrast of ACDC.
    "a": Scanner("a", {
        "air": 8, "lung": 45, "fat": 720, "muscle": 190, "myocardium": 215, "blood": 640, "rv_blood": 560,
        "liver": 205, "spleen": 300, "stomach": 430, "bowel": 360, "marrow": 330, "mesentery": 520},
        gain=1.0, bias=0.22, noise=14, spacing_mm=2.1, resolution_mm=2.4),
    # Saturated blood near a brighter myocardium, suppressed fat, bright liver; coarser, noisier, more shaded.
    "b": Scanner("b", {
        "air": 15, "lung": 110, "fat": 360, "muscle": 270, "myocardium": 310, "blood": 560, "rv_blood": 500,
        "liver": 400, "spleen": 480, "stomach": 250, "bowel": 450, "marrow": 230, "mesentery": 300},
        gain=0.55, bias=0.33, noise=27, spacing_mm=2.4, resolution_mm=3.8),
    # Scanner a with another sequence, as late enhancement differs from cine MRI: less contrast between blood and wall,
    # twice the spread inside the wall (patches, as a scar's), and all else at other intensities.
    "c": Scanner("c", {
        "air": 8, "lung": 45, "fat": 640, "muscle": 240, "myocardium": 250, "blood": 490, "rv_blood": 460,
        "liver": 350, "spleen": 330, "stomach": 260, "bowel": 300, "marrow": 420, "mesentery": 400},
        gain=1.0, bias=0.22, noise=14, spacing_mm=2.1, resolution_mm=2.4, wall_spread=0.36),
}  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """What is fixed about one patient, whatever the scanner; lengths in mm, angles in radians."""

    number: int
    seed: int
    group: str
    radius_mm: float  # LV cavity at the base; with the next, see GROUPS
    wall_mm: float
    rv_width_mm: float
    lv_ejection_fraction: float
    rv_ejection_fraction: float
    n_slices: int
    slice_thickness_mm: float
    first_slice_mm: float  # depth of slice 0 below the base of the LV at end diastole
    length_mm: float  # LV from base to apex at end diastole
    heart_mm: tuple[float, float]  # x, y of the LV axis in the middle of the stack
    rv_angle: float  # direction from LV to RV
    field_of_view_mm: tuple[float, float]  # y, x
    zoom: float  # of the scanner's in-plane spacing

    def rng(self, purpose: str) -> np.random.Generator:
        """An own random stream per purpose, so that no drawing depends on how often another one drew."""
        return np.random.default_rng([self.seed, self.number, *purpose.encode()])


def phantom_patient(number: int, seed: int = 0) -> Patient:
    """Draw the anatomy of one patient; groups take turns, so that any five consecutive numbers hold all five."""
    rng = np.random.default_rng([seed, number])
    group = list(GROUPS)[(number - 1) % len(GROUPS)]
    by_group = [rng.uniform(*limits) for limits in GROUPS[group]]
    n_slices, thickness = int(rng.integers(7, 10)), round(rng.uniform(8, 10), 1)
    first = rng.uniform(0.2, 0.8) * thickness
    length = first + (n_slices - 1 + rng.uniform(0.4, 0.8)) * thickness
    heart = (rng.normal(2, 9), rng.normal(-14, 9))
    field_of_view = (rng.uniform(295, 325), rng.uniform(285, 315))
    return Patient(number, seed, group, *by_group, n_slices, thickness, first, length, heart,
                   np.pi + rng.uniform(-0.15, 0.65), field_of_view, rng.uniform(0.97, 1.05))  # fmt: skip


def _wobble(rng: np.random.Generator, theta_cos: np.ndarray, theta_sin: np.ndarray, size: float) -> np.ndarray:
    """A smooth random function of the angle for each slice: shared by the patient's slices, plus a part of each own."""
    n_slices, out = len(theta_cos), np.zeros_like(theta_cos)
    cos, sin = theta_cos, theta_sin
    for order in range(2, 6):
        cos, sin = cos * theta_cos - sin * theta_sin, sin * theta_cos + cos * theta_sin  # of order * theta
        a, b = size / (order - 1) * (rng.normal(size=(2, 1, 1, 1)) + 0.5 * rng.normal(size=(2, n_slices, 1, 1)))
        out += a.astype(np.float32) * cos + b.astype(np.float32) * sin
    return out


def _ellipse(
    p: Patient, x: np.ndarray, y: np.ndarray, centre: tuple[Any, Any], radii: tuple[Any, Any], angle: float = 0.0,
    wobble: float = 0.0, rng: np.random.Generator | None = None,
) -> np.ndarray:  # fmt: skip
    """phi (n_slices, y, x) of a wobbly ellipse: the first-order distance f (f - 1) / |f grad f|.

    `centre` and `radii` are pairs (mm) of numbers or of one value per slice (n_slices, 1, 1).
    """
    cx, cy = (np.broadcast_to(np.float32(c), (p.n_slices, 1, 1)) for c in centre)  # float32: twice as fast
    a, b = (np.float32(radius) for radius in radii)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = ((x - cx) * cos + (y - cy) * sin) / a, ((y - cy) * cos - (x - cx) * sin) / b
    f = np.sqrt(u * u + v * v) + np.float32(1e-6)
    mm_per_f = f / np.sqrt((u / a) ** 2 + (v / b) ** 2 + np.float32(1e-12))
    if wobble:
        f = f / (1 + _wobble(rng, u / f, v / f, wobble))
    return (f - 1) * mm_per_f


def _field(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, length_mm: float, n_slices: int) -> np.ndarray:
    """A smooth Gaussian random field of unit variance in mm, not voxels, so that every grid samples the same one."""
    nodes = np.arange(-200, 200 + length_mm, length_mm, dtype=np.float32)
    noise = rng.normal(size=(n_slices, nodes.size, nodes.size)).astype(np.float32)
    weights = [np.exp(-(((axis.reshape(-1, 1) - nodes) / length_mm) ** 2)) for axis in (y, x)]
    wy, wx = (w / np.linalg.norm(w, axis=1, keepdims=True) for w in weights)
    return wy @ noise @ wx.T


def _heart(p: Patient, x: np.ndarray, y: np.ndarray, es: bool) -> tuple[Layers, np.ndarray]:
    """The heart's layers, outermost first, and its labels (n_slices, y, x) uint8."""
    rng, column = p.rng("heart"), (p.n_slices, 1, 1)
    depth = p.first_slice_mm + p.slice_thickness_mm * np.arange(p.n_slices, dtype=np.float32).reshape(column)
    # The base descends towards the apex in systole, so the basal slice of the stack may then show the atria.
    descent = 0.15 * p.lv_ejection_fraction * p.length_mm if es else 0.0
    t = (depth - descent) / (p.length_mm - descent)  # 0 at the base, 1 at the apex
    above_base, t = t < 0, np.maximum(t, 0)
    jitter = rng.normal(0, 1.0, size=(2, *column))  # breath-holds differ between slices
    tilt = rng.normal(0, 0.12, size=2)
    along = depth - depth.mean()
    cx, cy = (p.heart_mm[i] + jitter[i] + tilt[i] * along for i in (0, 1))
    dx, dy = (x - cx).astype(np.float32), (y - cy).astype(np.float32)
    # theta 0 is the middle of the septum
    r, theta = np.sqrt(dx**2 + dy**2) + np.float32(1e-6), np.arctan2(dy, dx) - np.float32(p.rv_angle)

    # LV: cavity and wall by slice; the wall's area grows as the ventricle shortens (constant muscle volume).
    taper = (1 - t**2.8) ** 0.58
    endo_ed = p.radius_mm * taper
    epi_ed = endo_ed + p.wall_mm * (1 - 0.2 * t)
    shortening = 1 - descent / p.length_mm
    squeeze = np.sqrt((1 - p.lv_ejection_fraction) / shortening) if es else 1.0
    endo = endo_ed * squeeze
    epi = np.sqrt(endo**2 + (epi_ed**2 - endo_ed**2) / shortening)
    endo_theta, epi_theta = (value + np.zeros_like(r) for value in (endo, epi))
    if p.group == "MINF":  # the scar is thin and hardly moves
        scar = np.exp(3 * (np.cos(theta - rng.uniform(-np.pi, np.pi)) - 1))
        endo_theta += scar * (0.8 * (endo_ed - endo) + 0.12 * p.wall_mm)
        epi_theta += scar * (0.8 * (epi_ed - epi) - 0.12 * p.wall_mm)
    if p.group == "HCM":  # asymmetric septal hypertrophy
        epi_theta += 0.22 * p.wall_mm * np.exp(2 * (np.cos(theta) - 1))
    shape = _wobble(rng, dx / r, dy / r, 0.022)
    endo_theta *= 1 + shape + _wobble(rng, dx / r, dy / r, 0.012)
    epi_theta = np.where(above_base, endo_theta + 2, np.maximum(epi_theta * (1 + shape), endo_theta + 4.5))
    phi_lv, phi_epi = r - endo_theta, r - epi_theta

    # RV: an ellipse behind the LV, of which the LV leaves a crescent that ends before the apex.
    end = rng.uniform(0.85, 1.0)
    width = p.rv_width_mm * np.sqrt(np.maximum(1 - (t / end) ** 2, 0)) * (1 - (0.8 * p.rv_ejection_fraction * es))
    septum = 1.03 * epi + (0.22 * p.wall_mm if p.group == "HCM" else 0)  # beyond its wobble, or the RV splits
    reach = (septum + width) / 2
    half_height = septum * (0.62 + 0.45 * np.sqrt(width / p.rv_width_mm)) + 0.12 * width
    angle = p.rv_angle + rng.normal(0, 0.1) - 0.25 * (1 - t)  # the outflow tract pulls the base of the RV upwards
    centre = (cx + reach * np.cos(angle), cy + reach * np.sin(angle))
    phi_rv = _ellipse(p, x, y, centre, (reach, half_height), p.rv_angle, 0.035, rng)
    phi_rv = np.where(width > 4, phi_rv, np.float32(99))

    outer = np.minimum(phi_epi, phi_rv - 2.5)
    fat = np.maximum(0, 2.5 + 4 * np.cos(theta + rng.normal(0, 0.5)) + 2.5 * _field(rng, x, y, 20, p.n_slices))
    trabeculae = _field(rng, x, y, 5.5, p.n_slices)
    rv_border = np.maximum(phi_rv, -phi_epi)
    layers: Layers = [
        ("muscle", outer - fat - 1.2), ("fat", outer - fat), ("myocardium", phi_rv - 2.5), ("rv_blood", phi_rv),
        ("myocardium", np.maximum(rv_border, 2.2 * (1.5 - trabeculae - 0.6 * t) - 0.25 * rv_border - 1.2)),
        ("myocardium", phi_epi), ("blood", phi_lv),
        ("myocardium", np.maximum(phi_lv, 2.2 * (1.1 - trabeculae) - 0.5 * phi_lv - 0.8)),
    ]  # fmt: skip
    for side in (-1, 1):  # papillary muscles: dark in the image, cavity in the label, as ACDC's experts drew them
        direction = p.rv_angle + side * rng.uniform(1.75, 2.2)
        size = rng.uniform(3.6, 5.4) * np.sqrt(np.clip(4 * (t - 0.1) * (0.9 - t) / 0.64, 1e-4, 1))
        centre = (cx + 0.66 * endo * np.cos(direction), cy + 0.66 * endo * np.sin(direction))
        phi = _ellipse(p, x, y, centre, (1.2 * size, size), direction, 0.08, rng)
        layers.append(("myocardium", np.maximum(np.where(size > 1, phi, np.float32(99)), phi_lv)))
    labels = np.where(phi_lv < 0, 3, np.where(phi_epi < 0, 2, np.where(phi_rv < 0, 1, 0)))
    for in_slice in labels:  # where a thin RV falls apart on the grid, its largest piece is the RV
        pieces, n_pieces = label(in_slice == 1)
        if n_pieces > 1:
            in_slice[(pieces > 0) & (pieces != 1 + np.argmax(np.bincount(pieces.flat)[1:]))] = 0
    return layers, np.where(above_base, 0, labels).astype(np.uint8)


def _thorax(p: Patient, x: np.ndarray, y: np.ndarray) -> Layers:
    """Everything around the heart, outermost first; it does not move between the frames."""
    rng, n, (hx, hy), epi = p.rng("thorax"), p.n_slices, p.heart_mm, p.radius_mm + p.wall_mm
    t = np.linspace(0, 1, n, dtype=np.float32).reshape(n, 1, 1)
    fat, muscle = rng.uniform(9, 24), rng.uniform(8, 12)
    rx, ry = rng.uniform(100, 118) + muscle + fat, rng.uniform(122, 140) + muscle + fat
    # The heart leans on the chest wall that is in front of the RV: the body is placed around it.
    cx, cy = hx - epi - p.rv_width_mm - 4 - muscle - fat + rx, hy + rng.uniform(5, 25)
    body = _ellipse(p, x, y, (cx, cy), (rx - 6 * t, ry), rng.uniform(-0.25, 0.25), 0.025, rng)
    cavity = body + fat + muscle + 1.5 * _field(rng, x, y, 25, n)
    layers: Layers = [("fat", body), ("muscle", body + fat + 4 * _field(rng, x, y, 40, n)), ("lung", cavity)]
    # Ribs: marrow between the muscles at every 0.3 rad or so.
    around = np.arctan2(y - cy, x - cx) + 0.25 * t + rng.uniform(0, 6)
    layers.append(("marrow", np.maximum(np.abs(body + fat + muscle * 0.6) - 3.5, 25 * (0.3 - np.sin(20 * around)))))
    for _ in range(18):  # vessels of the lung; each runs through some of the slices
        size = rng.uniform(1.2, 4.0) * np.cos(np.clip(3 * (t - rng.uniform(0, 1)), -1.5, 1.5))
        centre = (hx + rng.uniform(-60, 90) + 12 * t * rng.normal(), hy + rng.uniform(-95, 20))
        phi = _ellipse(p, x, y, centre, (size, 1.4 * size), rng.uniform(0, 3))
        layers.append(("blood", np.where(size > 0.8, np.maximum(phi, cavity), np.float32(99))))
    # Abdomen below the diaphragm, which follows the heart's lower border and rises towards the apex.
    slope, bend = rng.uniform(-0.1, 0.3), rng.uniform(0.0005, 0.002)
    diaphragm = hy + epi * (1.02 - 0.45 * t**2) + 5 + slope * (x - hx) + bend * (x - hx) ** 2 - y
    abdomen = np.maximum(diaphragm + 2 * _field(rng, x, y, 30, n), cavity)
    layers += [("muscle", abdomen), ("mesentery", abdomen + 3)]
    organs = [("liver", -42, 46, 66, rng.uniform(38, 50), 0), ("spleen", 72, 58, 32, 24, 0)]
    for _ in range(7):
        organs.append(("bowel", rng.uniform(-70, 80), rng.uniform(55, 110), *rng.uniform(8, 15, size=2), 2.5))
    organs += [  # the look-alikes: a stomach with a dark wall and round vessels, both as bright as the ventricles
        ("stomach" if rng.random() < 0.6 else "blood", 38, 30, rng.uniform(18, 25), rng.uniform(15, 20), 4.5),
        ("marrow", 45, 92, 19, 17, 2),  # a vertebra
        ("blood", 62, 22, *rng.uniform(10, 12.5, size=2), 1.5),  # descending aorta
        ("blood", -22, 28, rng.uniform(7, 11), rng.uniform(6, 8), 0),  # inferior vena cava
    ]
    organs += [("blood", rng.uniform(-80, -10), rng.uniform(15, 70), rng.uniform(2, 4.5), 2.5, 0) for _ in range(5)]
    for tissue, dx, dy, a, b, wall_mm in organs:
        centre = (hx + dx + rng.normal(0, 6) + rng.normal(0, 8) * t, hy + epi + dy + rng.normal(0, 5) - 8 * t)
        phi = _ellipse(p, x, y, centre, (a, b), rng.normal(0, 0.4), 0.05, rng)
        phi = np.maximum(phi, abdomen + 2)
        layers += [("muscle", phi), (tissue, phi + wall_mm)] if wall_mm else [(tissue, phi)]
    return layers


def render_patient(p: Patient, scanner: Scanner) -> dict[str, tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Image one patient.

    Args:
        p: the anatomy.
        scanner: the appearance.

    Returns:
        For "ED" and "ES": image int16 and labels uint8, both (n_slices, y, x), and their spacing (z, y, x) in mm.
    """
    spacing_mm = round(scanner.spacing_mm * p.zoom, 4)
    y, x = ((np.arange(n) - (n - 1) / 2) * spacing_mm for n in (round(f / spacing_mm) for f in p.field_of_view_mm))
    x, y = x.astype(np.float32)[None, None, :], y.astype(np.float32)[None, :, None]
    body, tissue, coil = p.rng("tissue"), p.rng("texture"), p.rng(f"coil {scanner.name}")
    level = {name: value * body.normal(1, 0.06) for name, value in scanner.contrast.items()}
    texture = 1 + 0.05 * _field(tissue, x, y, 6, p.n_slices) + 0.05 * _field(tissue, x, y, 28, p.n_slices)
    if scanner.wall_spread:
        level["myocardium"] = level["myocardium"] * (
            1 + scanner.wall_spread * _field(p.rng("wall"), x, y, 12, p.n_slices)
        ).clip(0.2)
    # Surface coils lie on the chest: brighter there (left and top), darker towards the back.
    bias = np.exp(scanner.bias * (_field(coil, x, y, 110, 1) - (x + y) / 110))

    def paint(image: np.ndarray, layers: Layers) -> np.ndarray:
        for name, phi in layers:
            cover = np.clip(np.float32(0.5) - phi.astype(np.float32) / np.float32(scanner.resolution_mm), 0, 1)
            image = image + cover * (np.float32(level[name]) - image)
        return image

    around = paint(np.full((p.n_slices, y.size, x.size), level["air"], dtype=np.float32), _thorax(p, x, y))
    frames = {}
    for frame in ("ED", "ES"):
        layers, labels = _heart(p, x, y, es=frame == "ES")
        image = gaussian_filter(paint(around, layers) * texture, (0, *[0.2 * scanner.resolution_mm / spacing_mm] * 2))
        noise = coil.normal(0, scanner.noise, size=(2, *image.shape))
        image = scanner.gain * np.hypot(image * bias / bias.mean() + noise[0], noise[1])  # magnitude: Rician
        frames[frame] = (image.clip(0, 2000).astype(np.int16), labels, (p.slice_thickness_mm, spacing_mm, spacing_mm))
    return frames


def _write_patient(folder: Path, p: Patient, scanner: Scanner) -> None:
    folder.mkdir(parents=True)
    rng = p.rng("record")
    n_frames, height_cm = int(rng.integers(20, 31)), rng.normal(171, 9)
    frame_numbers = {"ED": 1, "ES": round(n_frames * rng.uniform(0.34, 0.44))}
    for frame, (image, labels, spacing_mm) in render_patient(p, scanner).items():
        for suffix, array in (("", image), ("_gt", labels)):
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing(spacing_mm[::-1])
            sitk.WriteImage(volume, str(folder / f"{folder.name}_frame{frame_numbers[frame]:02d}{suffix}.nii.gz"))
    info = {**frame_numbers, "Group": p.group, "Height": f"{height_cm:.1f}", "NbFrame": n_frames}
    info["Weight"] = f"{rng.normal(25.5, 3) * (height_cm / 100) ** 2:.1f}"
    (folder / "Info.cfg").write_text("".join(f"{key}: {value}\n" for key, value in info.items()))


def write_phantom(
    out: Path | str, patients: int = 20, test_patients: int = 5, seed: int = 0, scanner: str = "a"
) -> list[Path]:
    """Write phantom patients as ACDC does: `training/patient001/` and on, `testing/patient101/` and on.

    Args:
        out: folder to fill, made where it is missing; that of `shapekd phantom` appears only when it is complete.
        patients: training patients, 1..100 (ACDC numbers its test patients from 101).
        test_patients: test patients, 0..899.
        seed: the same seed gives the same patients, on every scanner, and the same files on the same one.
        scanner: a key of `SCANNERS`.

    Returns:
        The patients' folders, training first.

    Raises:
        FileExistsError: a patient's folder is there already.
        ValueError: an argument is out of its range.
    """
    for name, value, least, most in (
        ("patients", patients, 1, FIRST_TEST_PATIENT - 1),
        ("test_patients", test_patients, 0, 1000 - FIRST_TEST_PATIENT),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name} must be {least}..{most}, got {value}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    if scanner not in SCANNERS:
        raise ValueError(f"scanner must be one of {', '.join(sorted(SCANNERS))}, got {scanner!r}")
    numbers = [("training", 1 + i) for i in range(patients)]
    numbers += [("testing", FIRST_TEST_PATIENT + i) for i in range(test_patients)]
    folders = []
    for part, number in numbers:
        folders.append(Path(out, part, f"patient{number:03d}"))
        _write_patient(folders[-1], phantom_patient(number, seed), SCANNERS[scanner])
    return folders
