"""Dice of two networks' averaged predictions: of their probabilities, tile by tile.

    python scripts/experiments/one_card/averages.py STACKS.npz ROWS.csv --runs reported --weights OUT/weights-*.npz \
        --pairs stock+stock stock+moves stock+mean-jitter

A pair's first network is one of each seed there is, its second the next seed's (the last one's the first's), so that
no two start alike or see the same patches. Rows as ``judge.py``'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import runs
import torch
from data import Stacks
from ensemble import Ensemble
from judge import loaded, options, read_states, write_rows


class Averages:
    """Some networks' mean probabilities, for ``dice``, which asks for logits.

    Args:
        ensemble: of all networks.
        groups: indices of those that are averaged.
    """

    def __init__(self, ensemble: Ensemble, groups: Sequence[Sequence[int]]) -> None:
        self.ensemble, self.groups, self.n = ensemble, groups, len(groups)

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """``(groups, b, c, h, w)``, all groups' alike -> ``[(groups, b, k, h, w)]``."""
        finest, *_ = self.ensemble(x[:1].expand(self.ensemble.n, -1, -1, -1, -1))
        probabilities = finest.float().softmax(2)
        return [torch.stack([probabilities[group].mean(0) for group in self.groups]).clamp_min(1e-6).log()]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", nargs="+", required=True, metavar="RUN+RUN")
    parser.add_argument("--data", default="ACDC-1", help="what the networks were trained on")
    args = parser.parse_args()
    states = {network: state for path in args.weights for network, state in read_states(path).items()}
    asked = {run for pair in args.pairs for run in pair.split("+")}
    networks = [(run, seed) for run, data, seed in states if data == args.data and run in asked]
    names, groups = [], []
    for pair in args.pairs:
        first, second = pair.split("+")
        seeds = sorted(seed for run, seed in networks if run == first)
        if len(seeds) < 2 or seeds != sorted(seed for run, seed in networks if run == second):
            parser.error(f"{pair}: the weights should have two seeds or more of it, and the same of both")
        for seed, following in zip(seeds, seeds[1:] + seeds[:1], strict=True):
            names.append((pair, args.data, seed))
            groups.append([networks.index((first, seed)), networks.index((second, following))])
    stacks = Stacks(args.stacks, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    ensemble = loaded([states[run, args.data, seed] for run, seed in networks], args.features, stacks.device)
    with args.to.open("w", newline="") as file:
        write_rows(file, names, Averages(ensemble, groups), stacks, runs.LISTS[args.runs][1])


if __name__ == "__main__":
    main()
