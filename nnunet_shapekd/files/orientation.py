"""How the structures of a data set lie in the voxel grid, and the in-plane turn after which another set lies so.

nnU-Net feeds networks the grid and never the header's directions, so a set that lies otherwise is another domain.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from nnunet_shapekd.files.images import Image
from nnunet_shapekd.files.label_maps import LabelMap

#: turn -> whether rows and columns are swapped first, and which of them then run backwards (rows, columns)
TURNS = {
    "none": (False, False, False),
    "upside-down": (False, True, False),
    "left-right": (False, False, True),
    "180": (False, True, True),
    "90": (True, True, False),
    "270": (True, False, True),
    "transpose": (True, False, False),
    "anti-transpose": (True, True, True),
}
#: cells along a side of the picture in which two sets are compared, and how far it reaches, in radii of all labels
_CELLS, _REACH = 24, 2.5
#: a set counts as turned if its cases agree better with another set's mean once they are: by so many standard errors,
#: in so large a share of them; and if the other set's own cases agree better as they are, by so many standard errors
_ERRORS, _MOST, _OWN_ERRORS = 3.0, 0.7, 2.5
#: fewer cases say nothing
FEWEST = 5
#: slices of a volume that are looked at, evenly
_SLICES = 32
#: directions from one class's centre to another's count as constant from this length of their mean on
_CONSTANT = 0.8
_WORDS = ("to the right of", "to the lower right of", "below", "to the lower left of",
          "to the left of", "to the upper left of", "above", "to the upper right of")  # fmt: skip

ImageOrLabels = TypeVar("ImageOrLabels", bound=Image)


def turned_array(values: np.ndarray, turn: str) -> np.ndarray:
    """Values, shape (..., y, x), turned in their last two axes; rows are counted downwards, "90" is anticlockwise."""
    swap, rows, columns = TURNS[turn]
    values = values.swapaxes(-2, -1) if swap else values
    return values[..., :: -1 if rows else 1, :: -1 if columns else 1]


def turned(image: ImageOrLabels, turn: str) -> ImageOrLabels:
    """An image of one channel turned in its grid; its header turns along, so that every voxel stays where it was.

    Args:
        image: shape (z, y, x) or (y, x).
        turn: of :data:`TURNS`.
    """
    if turn == "none":
        return image
    swap, rows, columns = TURNS[turn]
    n = len(image.shape)
    axes, spacing = np.reshape(image.direction, (n, n)).copy(), [*image.spacing]
    origin = np.array(image.origin, float)
    values = np.ascontiguousarray(turned_array(image.values, turn))
    if swap:
        axes[:, [0, 1]] = axes[:, [1, 0]]
        spacing[-2:] = spacing[:-3:-1]
    for axis, backwards in ((0, columns), (1, rows)):  # the header's axes are x, y, z, those of values z, y, x
        if backwards:
            origin += axes[:, axis] * spacing[-1 - axis] * (values.shape[-1 - axis] - 1)
            axes[:, axis] *= -1
    space = {"spacing": tuple(spacing), "origin": tuple(origin.tolist()), "direction": tuple(axes.ravel().tolist())}
    return replace(image, values=values, **space)


@dataclass(frozen=True)
class Lie:
    """How the classes of a data set lie, seen along the first axis of the grid.

    Attributes:
        classes: their names.
        shares: (cases, classes, cells, cells), which share of what is labelled lies where; place and size are taken
            away.
        directions: (cases, classes, classes, 2), unit vectors (down, right) from one class's centre to another's; NaN
            where a case lacks one of them.
    """

    classes: tuple[str, ...]
    shares: np.ndarray
    directions: np.ndarray

    @property
    def n_cases(self) -> int:
        return len(self.directions)

    def __str__(self) -> str:
        """In words: the two classes that lie in the most constant direction to each other."""
        means = _mean(self.directions)
        lengths = np.nan_to_num(np.linalg.norm(means, axis=-1))
        one, other = np.unravel_index(int(lengths.argmax()), lengths.shape)
        if lengths[one, other] < _CONSTANT:
            return "no two classes lie in a constant direction to each other"
        down, right = means[one, other]
        word = _WORDS[round(np.degrees(np.arctan2(down, right)) / 45) % 8]
        along = self.directions[:, one, other] @ (means[one, other] / lengths[one, other])
        known = along[~np.isnan(along)]
        within = int((known > np.cos(np.radians(45))).sum())
        return (
            f"{self.classes[other]} lies {word} {self.classes[one]} (rows counted downwards), within 45 degrees in "
            f"{within} of {len(known)} cases"
        )


def _mean(directions: np.ndarray) -> np.ndarray:
    known = ~np.isnan(directions).any(-1)
    return np.where(known[..., None], directions, 0).sum(0) / np.maximum(known.sum(0), 1)[..., None]


def lie_of(label_maps: Iterable[LabelMap], classes: Mapping[str, Sequence[int]]) -> Lie | None:
    """How the classes lie; ``None`` if nothing is labelled in any of the label maps.

    Args:
        label_maps: of some cases, (z, y, x) or (y, x).
        classes: class or region -> its values.
    """
    shares, directions = [], []
    for label_map in label_maps:
        seen = label_map.values
        seen = seen[:: max(1, len(seen) // _SLICES)] if seen.ndim == 3 else seen
        of_value = {value: _seen_along_first(seen == value) for value in {v for of in classes.values() for v in of}}
        counts = np.stack([sum(of_value[value] for value in values) for values in classes.values()])
        total = counts.sum(0)
        if not total.any():
            continue
        along = (np.arange(n) * size for n, size in zip(total.shape, label_map.spacing[-2:], strict=True))
        grid = np.stack(np.meshgrid(*along, indexing="ij"))
        centre = _centre(grid, total)
        radius = max(float(np.sqrt(_centre((grid - centre[:, None, None]) ** 2, total).sum())), 1e-6)
        cells = ((grid - centre[:, None, None]) / radius / _REACH + 1) / 2 * _CELLS
        inside = ((cells >= 0) & (cells < _CELLS)).all(0)
        index = (cells[0, inside].astype(int) * _CELLS + cells[1, inside].astype(int)).ravel()
        of_case = [np.bincount(index, count[inside], _CELLS**2) for count in counts]
        shares.append(np.reshape(of_case, (len(classes), _CELLS, _CELLS)) / total.sum())
        centres = np.array([_centre(grid, count) if count.any() else (np.nan, np.nan) for count in counts])
        between = centres[None] - centres[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            directions.append(between / np.linalg.norm(between, axis=-1, keepdims=True))
    return Lie(tuple(classes), np.stack(shares), np.stack(directions)) if shares else None


def together(lies: Sequence[Lie]) -> Lie:
    """How a set of several parts lies, each part of the same classes."""
    parts = {name: np.concatenate([getattr(lie, name) for lie in lies]) for name in ("shares", "directions")}
    return Lie(lies[0].classes, **parts)


def _seen_along_first(mask: np.ndarray) -> np.ndarray:
    return mask.sum(0) if mask.ndim == 3 else mask.astype(int)


def _centre(grid: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (grid * weights).sum((-2, -1)) / weights.sum()


def turn_between(reference: Lie, other: Lie) -> str | None:
    """The turn after which the other set lies as the reference, or ``None``: they lie alike, or nothing can be said.

    Every case is compared with the mean of the other set, turned and as it is; the mean difference is judged by its
    standard error. Compared are the classes that both have, by their names; two at least. Where what is labelled looks
    the same turned (a ring, a disc in a disc), or there are fewer than :data:`FEWEST` cases, nothing is said.
    """
    common = [name for name in reference.classes if name in other.classes]
    if len(common) < 2 or min(reference.n_cases, other.n_cases) < FEWEST:
        return None
    ours, theirs = (
        _of_length_one(lie.shares[:, [lie.classes.index(name) for name in common]]) for lie in (reference, other)
    )
    if found := _turn(ours, theirs):
        return found
    backwards = _turn(theirs, ours)
    return {"90": "270", "270": "90"}.get(backwards, backwards)


def _of_length_one(shares: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((shares**2).sum((1, 2, 3), keepdims=True))
    return shares / np.where(lengths > 0, lengths, 1)


def _turn(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    mean = ours.mean(0)
    gains = {turn: ((turned_array(theirs, turn) - theirs) * mean).sum((1, 2, 3)) for turn in TURNS if turn != "none"}
    turn = max(gains, key=lambda turn: gains[turn].mean())
    if _errors(gains[turn]) < _ERRORS or (gains[turn] > 0).mean() < _MOST:
        return None
    others = (ours.sum(0) - ours) / (len(ours) - 1)  # a case is no judge of itself
    own = ((ours - turned_array(ours, turn)) * others).sum((1, 2, 3))
    return turn if _errors(own) >= _OWN_ERRORS else None


def _errors(values: np.ndarray) -> float:
    """The mean in its standard errors."""
    return float(values.mean() / max(values.std(ddof=1) / np.sqrt(len(values)), 1e-9))
