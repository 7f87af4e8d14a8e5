"""The runs of ``train.py``: what each network is trained on, what intensities it sees, what its loss has besides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Run:
    """One network.

    Attributes:
        name: of the run; with the seed it names the network.
        data: "ACDC-0" (fold 0), "ACDC-1" (the official split), "bSSFP" or "LGE" (patients with odd numbers).
        moves: of ``MoveRanges``; a share of 0 for none.
        ramp: share of the training over which the moves' share grows from 0.
        fall: from this share of the training on, the moves' share falls linearly to ``last``, times itself.
        last: see ``fall``.
        rest: share of the training, at its end, in which nothing moves.
        late: whether intensities move after nnU-Net's augmentation instead of before its noise.
        kind: "supervised"; "distilled" by a network of class-mean images, "from stock" by a network like the student
            that was trained as stock is, "from average" by the moving average of the student's own weights, each of
            which sees the sample as it was; "two views": the sample as it is and moved, which shall agree; "teacher".
        agree_on: of "two views", "predictions" or "features" of the encoder.
        views: of "two views", the weights of the losses of the sample as it is and moved.
        weight: of the distillation or agreement, full after ``weight_ramp`` of the training.
        labels: the labels in the teacher's place: what is added to the cross-entropy's weight, ramped alike.
        trainer: ``module:class`` of a trainer of nnU-Net's whose data loader makes the batches.
        other: another change of intensities in a share of the samples: "convolutions" or "curves".
        length: of the training, over that of the others.
        averaged: whether the moving average of the weights is kept, too, as a network of its own.
    """

    name: str
    data: str = "ACDC-0"
    moves: dict[str, float] = field(default_factory=lambda: {"share": 0.0})
    ramp: float = 0.0
    fall: float = 1.0
    last: float = 0.0
    rest: float = 0.0
    late: bool = False
    kind: str = "supervised"
    agree_on: str = "predictions"
    views: tuple[float, float] = (0.5, 0.5)
    weight: float = 0.0
    weight_ramp: float = 0.5
    labels: float = 0.0
    other: str = ""
    other_share: float = 0.0
    trainer: str = ""
    length: float = 1.0
    averaged: bool = False


MEAN_JITTER = {"share": 0.15, "location": 2.0, "texture": 0.0, "own": 1.0, "background": 0.0}
MOVES = {"share": 0.5, "location": 2.0, "texture": 1.0, "own": 0.75, "background": 1.0}


def moving(
    name: str, *, ramp: float = 0.3, fall: float = 1.0, last: float = 0.0, late: bool = False, **moves: float
) -> Run:
    return Run(name, moves=MOVES | moves, ramp=ramp, fall=fall, last=last, late=late)


def two_views(name: str, of: Run, **more: object) -> Run:
    return replace(of, name=name, kind="two views", moves=of.moves | {"share": 1.0}, ramp=0.0, **more)


STOCK = Run("stock")
JITTER = Run("mean-jitter", moves=MEAN_JITTER, late=True)
PEERS = [
    Run("convolutions", other="convolutions", other_share=0.5),
    Run("curves", other="curves", other_share=0.5),
]
FIRST = moving("moves")

#: what the moves' defaults were chosen from. The run of 2026-11-26 had patches, too: a smooth random field added to
#: each class, of 0.5 standard deviations unless "no-patches" or "patches-1" (none, 1.0); they were given up.
EXPLORED = [
    STOCK,
    JITTER,
    FIRST,
    moving("moves-at-once", ramp=0.0),
    moving("moves-falling", fall=0.7, last=0.2),
    moving("moves-late", late=True),
    moving("moves-share-0.3", share=0.3),
    moving("moves-share-0.8", share=0.8),
    moving("moves-share-0.8-falling", share=0.8, fall=0.6, last=0.2),
    moving("moves-no-texture", texture=0.0),
    moving("moves-texture-2", texture=2.0),
    moving("moves-background-rests", background=0.0),
    moving("moves-location-1", location=1.0),
    moving("moves-location-3", location=3.0),
    moving("moves-own-1", own=1.0),
    moving("moves-own-0.4", own=0.4),
    moving("moves-curve-alone", own=0.0),
    *PEERS,
    two_views("moves-two-views", FIRST),
    two_views("moves-agree", FIRST, weight=1.0),
    two_views("moves-agree-5", FIRST, weight=5.0),
]

#: what is recommended, and beside it what it is compared with
MOVED = moving("moves", location=3.0, texture=2.0, ramp=0.5)
RARE = moving("moves-rare", location=3.0, texture=2.0, share=0.2, ramp=0.0)
AGREED = two_views("moves-agree", MOVED, weight=1.0)
OF_SEEDS = [
    (STOCK, 3),
    (MOVED, 3),
    (RARE, 2),
    (AGREED, 3),
    (two_views("moves-agree-sum", MOVED, weight=1.0, views=(1.0, 1.0)), 2),
    (two_views("moves-two-views", MOVED), 2),
    (replace(MOVED, name="moves-teacher", kind="distilled", weight=1.0), 2),
    (replace(MOVED, name="moves-labels", labels=1.0), 2),
    (JITTER, 3),
    *((peer, 2) for peer in PEERS),
    (replace(STOCK, name="stock-fifth", length=0.2), 3),
    (replace(MOVED, name="moves-fifth", length=0.2), 3),
    (replace(JITTER, name="mean-jitter-fifth", length=0.2), 3),
]
REPORTED = [(replace(run, data="ACDC-1"), seed) for run, seeds in OF_SEEDS for seed in range(seeds)]

#: from one of MSCMRseg's sequences to the other, trained on the patients that choices rest on
SEQUENCES = [
    (replace(run, data=sequence), seed)
    for seed in range(2)
    for sequence in ("bSSFP", "LGE")
    for run in (STOCK, MOVED, JITTER)
]
REPORTED += SEQUENCES


def odd(case: str) -> bool:
    """Of MSCMRseg's subjects."""
    return int(case.removeprefix("subject")) % 2 == 1


def explored(place: str, case: str, splits: list[dict[str, list[str]]]) -> bool:
    """Stacks that choices rest on: fold 0's held-out cases and MSCMRseg's subjects with odd numbers."""
    if place == "ACDC":
        return case in splits[0]["val"]
    return place in ("bSSFP", "LGE") and odd(case)


def reported(place: str, case: str, splits: list[dict[str, list[str]]]) -> bool:
    """The official split's cases, as they are and shifted, and all others; of MSCMRseg the table takes what is new."""
    return place != "ACDC" or case in splits[1]["val"]


#: does distillation help? three seeds
STUDENT = Run("student", kind="distilled", weight=1.0)
DISTILLED = [(replace(run, data="ACDC-1"), seed) for run in (STOCK, STUDENT) for seed in range(3)]

#: the trainers' defaults and stock, on a computer without a card: nine networks, some ten minutes each on a core
PAIRS = [(replace(run, data="ACDC-1"), seed) for seed in range(3) for run in (STOCK, MOVED, JITTER)]

#: who teaches a student of moved images? On the development patients; not all rows have both seeds
TAUGHT = [
    replace(STOCK, averaged=True),
    replace(MOVED, averaged=True),
    replace(MOVED, name="moves-from-stock", kind="from stock", weight=1.0, weight_ramp=0.0),
    replace(MOVED, name="moves-from-average", kind="from average", weight=1.0, averaged=True),
    replace(MOVED, name="moves-teacher", kind="distilled", weight=1.0),
    AGREED,
    replace(AGREED, name="moves-agree-features", agree_on="features"),
    replace(RARE, averaged=True),
    replace(MOVED, name="moves-labels", labels=1.0),
]

#: what wins back what moves lose inside? On the development patients; not all rows have both seeds
SHARES = [
    STOCK,
    MOVED,
    RARE,
    replace(RARE, name="moves-rarer", moves=RARE.moves | {"share": 0.1}),
    *(
        replace(MOVED, name=f"moves-{share}-rest-{rest:g}", moves=MOVED.moves | {"share": share}, ramp=0.3, rest=rest)
        for share, rest in ((0.5, 0.0), (0.5, 0.1), (0.5, 0.2), (0.8, 0.2))
    ),
    replace(MOVED, name="moves-curve-alone", moves=MOVED.moves | {"own": 0.0}),
    JITTER,
    replace(JITTER, name="mean-jitter-convolutions", other="convolutions", other_share=0.15),
]

#: augmentations that exist as a trainer of nnU-Net's; SmaugLab's (GPL) has to be installed, and its variable
#: SMAUGLAB_PARAMS_JSON has to name a configuration for two axes (docs/evidence/moves.md)
DA5 = "nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5:nnUNetTrainerDA5"
SMAUGLAB = "smauglab.trainers.nnUNetTrainerDAExt:nnUNetTrainerDAExtGPU"
TRAINERS = [
    Run("stock-loader", "ACDC-1", trainer="nnunetv2.training.nnUNetTrainer.nnUNetTrainer:nnUNetTrainer"),
    Run("DA5", "ACDC-1", trainer=DA5),
    Run("SmaugLab", "ACDC-1", trainer=SMAUGLAB),
]

#: does what moves cost inside go away with more training?
LONGER = [
    (replace(run, name=f"{run.name}-3x", data="ACDC-1", length=3.0), seed)
    for seed in range(3)
    for run in (STOCK, MOVED, JITTER)
]

LISTS = {
    "explored": ([(run, 0) for run in EXPLORED], explored),
    "reported": (REPORTED, reported),
    "sequences": (SEQUENCES, reported),
    "distilled": (DISTILLED, reported),
    "longer": (LONGER, reported),
    "trainers": ([(run, seed) for seed in range(2) for run in TRAINERS], reported),
    "taught": ([(run, seed) for seed in range(2) for run in TAUGHT], explored),
    "shares": ([(run, seed) for seed in range(2) for run in SHARES], explored),
    "pairs": (PAIRS, reported),
}
