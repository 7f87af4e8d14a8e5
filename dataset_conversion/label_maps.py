"""Label values of a download brought to those of nnU-Net: 0 background, then 1, 2, ... without gaps."""

import re
from collections.abc import Mapping

_LARGEST = 2**16 - 1  # MyoPS, whose values are the largest in use, ends at 2221


def parse_label_map(text: str) -> dict[int, int]:
    """Source value -> target value, of `500:3,200:2,600:1`; the target 0 drops a structure.

    Raises:
        ValueError: if the text is of another form, names a source twice, or the targets have a gap.
    """
    entries = text.replace(" ", "").split(",")
    wrong = [entry for entry in entries if not re.fullmatch(r"\d{1,5}:\d{1,3}", entry)]
    if wrong:
        raise ValueError(f"--labels: expected SOURCE:TARGET,... like 500:3,200:2,600:1, got {', '.join(wrong)!r}")
    pairs = [(int(source), int(target)) for source, target in (entry.split(":") for entry in entries)]
    sources = [source for source, _ in pairs]
    for source in sorted(set(sources)):
        if sources.count(source) > 1:
            raise ValueError(f"--labels: {source} is mapped {sources.count(source)} times; name every value once")
    if max(sources) > _LARGEST or dict(pairs).get(0, 0) != 0:
        raise ValueError(f"--labels: expected sources 1 to {_LARGEST} (0 is background and stays 0), got {text}")
    targets = {target for _, target in pairs} - {0}
    if targets != set(range(1, len(targets) + 1)) or not targets:
        found = ", ".join(map(str, sorted(targets))) or "0 only"
        raise ValueError(f"--labels: nnU-Net wants the targets 1, 2, ... without gaps, got {found}")
    return dict(pairs)


def show_label_map(label_map: Mapping[int, int]) -> str:
    """The text that :func:`parse_label_map` makes this map of."""
    return ",".join(f"{source}:{target}" for source, target in label_map.items())


def name_labels(label_map: Mapping[int, int], known: Mapping[int, str], given: str | None = None) -> dict[str, int]:
    """The entry "labels" of dataset.json: a class is named after its source values, or as given.

    Args:
        label_map: source value -> target value.
        known: source value -> name; structures that share a target are joined by "_and_".
        given: the classes' names in the order of their values, separated by commas.

    Raises:
        ValueError: if the names given are not one for each class, or no names for dataset.json.
    """
    n_classes = max(label_map.values())
    if given is None:
        sources = [[source for source in label_map if label_map[source] == value] for value in range(1, n_classes + 1)]
        # dict.fromkeys: a structure may have two source values, and is named once
        names = ["_and_".join(dict.fromkeys(known.get(s, f"label{s}") for s in group)) for group in sources]
    else:
        names = [name.strip() for name in given.split(",")]
        if len(names) != n_classes:
            raise ValueError(f"--names: expected {n_classes} names, for the values 1 to {n_classes}, got {given!r}")
    bad = [name for name in names if not name or name in ("background", "ignore") or names.count(name) > 1]
    if bad:
        raise ValueError(f"--names: expected different names, neither background nor ignore, got {', '.join(names)}")
    return {"background": 0, **{name: value for value, name in enumerate(names, 1)}}
