"""What the masks of 2D images mean: classes, their values, which lie inside which."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: an inner class may lie outside its outer one by this share: soft maps and antialiasing explain a few per cent
_OUTSIDE = 0.05


@dataclass(frozen=True)
class Labels:
    """Classes of a dataset: the class at position i has index i + 1.

    Attributes:
        values: class -> its values in the masks, grey 0 to 65535 or, with ``colours``, 0xRRGGBB. An outer class may
            hold the values of the classes inside it.
        inside: class -> the classes inside it, which are listed after it.
        background: value that is no class.
        colours: masks are read as colours.
        per_file: each class has mask files of its own.
    """

    values: dict[str, tuple[int, ...]]
    inside: dict[str, tuple[str, ...]]
    background: int = 0
    colours: bool = False
    per_file: bool = False

    def index(self, name: str) -> int:
        return list(self.values).index(name) + 1

    def dataset_json(self) -> dict:
        """The entries "labels" and, with nested classes, "regions_class_order" of nnU-Net's dataset.json.

        nnU-Net paints the regions in this order, the inner over the outer ones, so each is written as its own index.
        """
        regions = any(self.inside.values())
        labels: dict[str, int | list[int]] = {"background": 0}
        for name in self.values:
            indices = [self.index(name), *(self.index(inner) for inner in self.inside[name])]
            labels[name] = indices if len(indices) > 1 else indices[0]
        order = [self.index(name) for name in self.values if name != "ignore"]
        return {"labels": labels, "regions_class_order": order} if regions else {"labels": labels}


def parse_labels(texts: Sequence[str], background: str = "0", nested: bool = False, per_file: bool = False) -> Labels:
    """Labels from `NAME:VALUE[,VALUE...]`, a value being 0 to 65535 or a colour #RRGGBB.

    Args:
        texts: One per class, outer before inner classes.
        background: The value that is no class.
        nested: Every class lies inside the one before it.
        per_file: Each class has files of its own, so the same value may stand for several classes.

    Raises:
        ValueError: naming the argument that is wrong and how it is written.
    """
    colours = any("#" in text for text in (*texts, background))
    values: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, listed = text.rpartition(":")
        if not re.fullmatch(r"[\w -]+", name) or name in (*values, "background"):
            raise ValueError(
                f"--labels {text}: expected NAME:VALUE[,VALUE...], each name once, background not among them"
            )
        values[name] = tuple(_parse_value(value, colours, f"--labels {text}") for value in listed.split(","))
    if not values:
        raise ValueError("--labels: expected at least one class, like polyp:255")
    if "ignore" in values and list(values)[-1] != "ignore":
        raise ValueError("--labels: list ignore last, as nnU-Net wants the highest index for it")
    names = [name for name in values if name != "ignore"]
    inside: dict[str, tuple[str, ...]] = {name: () for name in values}
    for position, outer in enumerate(names):
        for inner in names[position + 1 :]:
            shared = set(values[outer]) & set(values[inner])
            if nested or (shared and not per_file and shared == set(values[inner]) != set(values[outer])):
                inside[outer] += (inner,)
            elif shared and not per_file:
                raise ValueError(
                    f"--labels: {outer} and {inner} share values, but {inner} is not inside {outer}: list outer "
                    "classes first, with all values of their inner ones, as in disc:1,2 cup:2"
                )
    zero = _parse_value(background, colours, f"--background {background}")
    taken = [name for name in values if zero in values[name]]
    if taken:
        raise ValueError(
            f"--labels: {taken[0]} has the value of the background, {background}; give the other --background"
        )
    return Labels(values, inside, zero, colours, per_file)


def _parse_value(text: str, colours: bool, argument: str) -> int:
    text = text.strip()
    if re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        return int(text[1:], 16)
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > (255 if colours else 65535):
        raise ValueError(
            f"{argument}: expected a grey value like 255 or a colour like #FF0000, got {text or 'nothing'}"
        )
    return int(text) * 0x010101 if colours else int(text)


def merge_masks(parts: Sequence[np.ndarray], labels: Labels) -> np.ndarray:
    """One mask of several of the same image, uint8 indices (height, width); an inner class wins over an outer one.

    Raises:
        ValueError: saying how many pixels two masks give to different classes, none inside the other; or how much of
            an inner class lies outside its outer one, where the classes have files of their own.
    """
    names = list(labels.values)
    if labels.per_file:
        _check_nesting(parts, labels)
    merged = parts[0]
    for part in parts[1:]:
        low, high = np.minimum(merged, part), np.maximum(merged, part)
        clash = (low > 0) & (low != high)
        for pair in np.unique(np.stack([low[clash], high[clash]]), axis=1).T.tolist():
            outer, inner = (names[index - 1] for index in pair)
            if inner not in labels.inside[outer]:
                n_pixels = int((clash & (low == pair[0]) & (high == pair[1])).sum())
                raise ValueError(f"{n_pixels} pixels are both {outer} and {inner}; give --nested if that is meant so")
        merged = high
    return merged


def _check_nesting(parts: Sequence[np.ndarray], labels: Labels) -> None:
    """Raises ValueError where more of a part, which is of one class, lies outside an outer class than `_OUTSIDE`."""
    for part in parts:
        index = int(part.max())
        inner = list(labels.values)[index - 1]
        for outer in (name for name in labels.values if index and inner in labels.inside[name]):
            within = np.logical_or.reduce([other == labels.index(outer) for other in parts])
            of_inner = part == index
            share = np.count_nonzero(of_inner & ~within) / np.count_nonzero(of_inner)
            if share > _OUTSIDE:
                raise ValueError(
                    f"{100 * share:.1f} % of {inner} lie outside {outer}, expected at most {100 * _OUTSIDE:g} %: look "
                    "whether the two are swapped, and correct the masks or leave the case out with --exclude"
                )
