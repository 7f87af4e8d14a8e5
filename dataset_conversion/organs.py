"""Abdominal organs by name: which of them a dataset is to have, so that sets of other scanners fit each other."""

from collections.abc import Sequence

#: TransUNet's, in the order of their values in its data, 1 to 8
TRANSUNET_ORGANS = (
    "aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach",
)  # fmt: skip
#: CHAOS's, in the order of the grey levels of its masks
CHAOS_ORGANS = ("liver", "right_kidney", "left_kidney", "spleen")


def organs_map(own: Sequence[str], chosen: int) -> dict[int, int]:
    """The download's values -> those of the organs chosen.

    Args:
        own: all organs, in the order of their values from 1 on.
        chosen: how many: 4 are CHAOS's, 8 are TransUNet's, or all.
    """
    sets = {4: CHAOS_ORGANS, 8: TRANSUNET_ORGANS, len(own): tuple(own)}
    target_of = {organ: value for value, organ in enumerate(sets[chosen], 1)}
    return {source: target_of.get(organ, 0) for source, organ in enumerate(own, 1)}
