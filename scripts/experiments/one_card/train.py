"""Train many small networks at once on one card, and judge them.

    python scripts/experiments/one_card/train.py STACKS.npz OUT --runs explored --seeds 0 --steps 7500

STACKS.npz is ``pack.py``'s; it is held on the card, patches are drawn and augmented there, and one CUDA graph holds the
step of all networks of a kind. OUT gets a row for each network, stack and structure, and the networks' weights.

Against nnU-Net's own training: the same network, loss, optimiser, learning rate's decay (by 50 steps), share of
forced foreground and list of augmentations, but bfloat16 instead of float16, intensities in 8 bits, a canvas of 288 mm,
and patches of one seed in the same order for all networks.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import augment
import losses
import numpy as np
import peers
import runs as plans
import torch
from data import Judged, Stacks
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from ensemble import Descent, Ensemble
from judge import dice
from runs import Run
from torch import nn

from nnunet_shapekd.method.class_mean import class_mean_image
from nnunet_shapekd.method.intensity_moves import MoveRanges, apply_moves, draw_moves
from nnunet_shapekd.method.skipless_unet import without_skips

EPOCH = 50
BATCH, PATCH, CLASSES = 4, 96, 4
STRUCTURES = ("RV", "MLV", "LVC")


def build(features: Sequence[int]) -> nn.Module:
    n = len(features)
    network = PlainConvUNet(
        1, n, list(features), nn.Conv2d, 3, [1] + [2] * (n - 1), 2, CLASSES, 2 if n == 1 else [2] * (n - 1), True,
        nn.InstanceNorm2d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU, {"inplace": True}, True,
    )  # fmt: skip
    network.apply(InitWeights_He(1e-2))
    return network


class Group:
    """Networks whose steps do the same.

    Args:
        runs: of one kind.
        seeds: one for each run; those of one seed see the same patches in the same order.
        teachers: distilled networks' teachers, one a network.
    """

    def __init__(
        self,
        runs: list[Run],
        seeds: list[int],
        stacks: Stacks,
        steps: int,
        features: Sequence[int],
        precision: str,
        teachers: list[dict[str, torch.Tensor]] | None = None,
    ) -> None:
        self.runs, self.seeds, self.stacks, self.steps, self.kind = runs, seeds, stacks, steps, runs[0].kind
        device = self.device = stacks.device
        make = (lambda: without_skips(build(features))) if self.kind == "teacher" else (lambda: build(features))
        self.ensemble = Ensemble(make, seeds).to(device)
        if teachers:
            self.teacher = Ensemble(lambda: without_skips(build(features)), seeds).to(device).requires_grad_(False)
            self.teacher.load(teachers)
        self.rate = torch.tensor(0.01, device=device)
        self.descent = Descent(self.ensemble, self.rate)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
        pools = [stacks.training(run.data) for run in runs]
        most = max(map(len, pools))
        n = len(runs)
        pool = torch.tensor([pool + [0] * (most - len(pool)) for pool in pools], device=device)
        self.pool = pool.repeat_interleave(BATCH, 0)
        self.pool_size = torch.tensor([len(pool) for pool in pools], device=device).repeat_interleave(BATCH)
        different = sorted(set(seeds))
        self.seed_of = torch.tensor([different.index(seed) for seed in seeds], device=device)
        self.n_seeds = len(different)
        self.forced = (torch.arange(BATCH, device=device) >= round(BATCH * 0.67)).repeat(n)
        self.base, self.extra = (torch.Generator(device) for _ in range(2))
        self.base.manual_seed(sum(1000**i * (seed + 1) for i, seed in enumerate(different)))
        self.extra.manual_seed(different[0])
        of_sample = {
            name: self._of_samples([run.moves.get(name, 0.0) for run in runs])
            for name in ("location", "texture", "patches", "own", "background")
        }
        self.share = self._of_samples([0.0] * n)
        self.late = self._of_samples([float(run.late) for run in runs]).bool().view(-1, 1, 1, 1)
        self.any_late = any(run.late for run in runs)
        self.ranges = MoveRanges(share=self.share, **of_sample)
        self.moves_at_all = any(run.moves["share"] for run in runs)
        self.weight = torch.zeros(n, device=device)
        self.ce_weight = torch.ones(n, device=device)
        self.others = {
            name: self._of_samples([run.other_share * (run.other == name) for run in runs])
            for name in {run.other for run in runs} - {""}
        }
        self.losses = torch.zeros(n, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def _of_samples(self, of_runs: list[float]) -> torch.Tensor:
        return torch.tensor(of_runs, device=self.device).repeat_interleave(BATCH)

    def _drawn(self, make: Callable[..., torch.Tensor], *size: int) -> torch.Tensor:
        """Numbers of each sample, ``(n·BATCH, *size)``: the same for all networks of a seed."""
        numbers = make((self.n_seeds, BATCH, *size), device=self.device, generator=self.base)
        return numbers[self.seed_of].flatten(0, 1)

    def _moved(self, image: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        moves = draw_moves(image.shape, CLASSES, self.ranges, self.device, self.extra)
        return apply_moves(image, classes, CLASSES, moves)

    def step(self) -> None:
        u, noise = self._drawn(torch.rand, augment.NUMBERS + 4), self._drawn(torch.randn, 1, PATCH, PATCH)
        slices, centre = self.stacks.draw(self.pool, self.pool_size, u[:, :4], PATCH, self.forced)
        canvas, labels = self.stacks.values(slices), self.stacks.label[slices][:, None].long()
        with torch.no_grad():
            as_it_was, classes = augment.spatial(canvas, labels, centre, PATCH, u[:, 4:8])
            image = as_it_was
            for name, share in self.others.items():
                image = peers.CHANGES[name](image, classes, share, self.extra)
            if self.moves_at_all:
                moved = self._moved(image, classes)
                image = torch.where(self.late, image, moved) if self.any_late else moved
            image = augment.intensities(image, u[:, 8:], noise)
            if self.any_late:
                image = torch.where(self.late, self._moved(image, classes), image)
            if self.kind == "teacher":
                image = class_mean_image(image, classes, CLASSES)
        n = len(self.runs)
        x, target = image.view(n, BATCH, 1, PATCH, PATCH), classes.view(n, BATCH, PATCH, PATCH)
        if self.kind == "two views":
            clean = augment.intensities(as_it_was, u[:, 8:].flip(1), noise).view_as(x)
            x = torch.cat((x, clean), 1)
        with self.autocast:
            logits, _ = self.ensemble(x)
        if self.kind == "two views":
            moved, clean = [part[:, :BATCH] for part in logits], [part[:, BATCH:] for part in logits]
            loss = (
                losses.segmentation(moved, target, self.ce_weight) + losses.segmentation(clean, target, self.ce_weight)
            ) / 2
            loss = loss + self.weight * losses.divergence(moved, clean)
        else:
            loss = losses.segmentation(logits, target, self.ce_weight)
        if self.kind == "distilled":
            with torch.no_grad(), self.autocast:
                of_teacher, _ = self.teacher(class_mean_image(as_it_was, classes, CLASSES).view_as(x))
            loss = loss + self.weight * losses.divergence(logits, of_teacher)
        loss.sum().backward()
        self.descent.step()
        self.losses.add_(loss.detach())

    def schedule(self, step: int) -> None:
        """What changes from epoch to epoch."""
        done = step / self.steps
        self.rate.fill_(0.01 * (1 - done) ** 0.9)
        share, weight, ce = [], [], []
        for run in self.runs:
            now = run.moves["share"] * (min(1.0, done / run.ramp) if run.ramp else 1.0)
            if done > run.fall:
                now *= 1 - (1 - run.last) * (done - run.fall) / (1 - run.fall)
            share.append(now)
            ramp = min(1.0, done / run.weight_ramp) if run.weight_ramp else 1.0
            weight.append(run.weight * ramp)
            ce.append(1 + run.labels * ramp)
        self.share.copy_(self._of_samples(share))
        self.weight.copy_(torch.tensor(weight))
        self.ce_weight.copy_(torch.tensor(ce))

    def capture(self) -> None:
        """Put a step into a CUDA graph."""
        stream = torch.cuda.Stream()
        self.schedule(0)
        weights = [weight.detach().clone() for weight in self.ensemble.parameters()]
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.synchronize()
        for weight, before in zip(self.ensemble.parameters(), weights, strict=True):
            weight.data.copy_(before)
        for velocity in self.descent.velocity_of.values():
            velocity.zero_()
        self.losses.zero_()
        graph = torch.cuda.CUDAGraph()
        for generator in (self.base, self.extra):
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self.step()
        self.graph = graph


def train(groups: list[Group], steps: int, log: Callable[[str], None]) -> None:
    """All groups' networks, side by side."""
    on_card = groups[0].device.type == "cuda"
    streams = [torch.cuda.Stream() if on_card else nullcontext() for _ in groups]
    if on_card:
        for group in groups:
            group.capture()
        torch.cuda.synchronize()
    start = time.time()
    for step in range(0, steps, EPOCH):
        for group, stream in zip(groups, streams, strict=True):
            with torch.cuda.stream(stream) if on_card else stream:
                group.schedule(step)
        for _ in range(min(EPOCH, steps - step)):
            for group, stream in zip(groups, streams, strict=True):
                if on_card:
                    with torch.cuda.stream(stream):
                        group.graph.replay()
                else:
                    group.step()
        if on_card:
            torch.cuda.synchronize()
        if step % (20 * EPOCH) == 0:
            means = [f"{value / min(EPOCH * 20, step + EPOCH):.3f}" for g in groups for value in g.losses.tolist()]
            seconds = (time.time() - start) / (step + EPOCH)
            log(f"step {step + EPOCH}: {1000 * seconds:.2f} ms a step of all; losses {' '.join(means)}")
            for group in groups:
                group.losses.zero_()


def judge(group: Group, judged: Sequence[Judged]) -> list[tuple[object, ...]]:
    rows = []
    for of in judged:
        found = dice(group.ensemble, group.stacks, of, PATCH, group.autocast).cpu().numpy()
        rows += [
            (run.name, run.data, seed, of.place, of.case, name, round(float(value), 4))
            for run, seed, values in zip(group.runs, group.seeds, found, strict=True)
            for name, value in zip(STRUCTURES, values, strict=True)
        ]
    return rows


def groups_of(networks: list[tuple[Run, int]], size: int) -> list[list[tuple[Run, int]]]:
    ordered = sorted(networks, key=lambda network: network[0].kind)
    kinds = [list(of_kind) for _, of_kind in groupby(ordered, key=lambda network: network[0].kind)]
    return [kind[i : i + size] for kind in kinds for i in range(0, len(kind), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", required=True, help="a list in runs.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=7500)
    parser.add_argument("--features", type=int, nargs="+", default=[12, 24, 48, 96, 128])
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--size", type=int, default=40, help="most networks side by side in one graph")
    parser.add_argument("--limit", type=int, help="networks, for a try")
    parser.add_argument("--judge-every", type=int, default=1, help="which stacks are judged, for a try")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.time()
    to_log = (args.out / "log.txt").open("a")

    def log(text: str) -> None:
        for file in (None, to_log):
            print(f"{time.time() - begin:6.1f} s  {text}", file=file, flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # chooses while the graphs are warmed up
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    stacks = Stacks(args.stacks, device)
    of_list, chosen = plans.LISTS[args.runs]
    networks = [(run, seed) for seed in args.seeds for run in of_list][: args.limit]
    judged = [of for of in stacks.judged if chosen(of.place, of.case, stacks.splits)][:: args.judge_every]
    log(f"{len(networks)} networks, {len(stacks.judged)} stacks, {device}")
    how = {"steps": args.steps, "features": args.features, "precision": args.precision}
    states: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    wants_teacher = sorted({(run.data, seed) for run, seed in networks if run.kind == "distilled"})

    def groups(of: list[tuple[Run, int]], teachers: bool = False) -> list[Group]:
        made = []
        for part in groups_of(of, args.size):
            kinds, seeds = map(list, zip(*part, strict=True))
            of_these = [states[run.data, seed] for run, seed in part] if kinds[0].kind == "distilled" else None
            made.append(Group(kinds, seeds, stacks, args.steps, args.features, args.precision, of_these))
        return made

    rows: list[tuple[object, ...]] = []

    def finish(done: list[Group]) -> None:
        for i, group in enumerate(done):
            for run, seed, state in zip(group.runs, group.seeds, group.ensemble.states(), strict=True):
                if run.kind == "teacher":
                    states[run.data, seed] = state
                bad = not all(torch.isfinite(tensor).all() for tensor in state.values())
                if bad:
                    log(f"{run.name} {run.data} {seed}: weights are not numbers")
            if group.kind != "teacher":
                rows.extend(judge(group, judged))
            log(f"judged group {i} ({group.kind}, {len(group.runs)} networks)")
            with (args.out / "rows.csv").open("w", newline="") as file:
                csv.writer(file).writerows(rows)

    if wants_teacher:
        teachers = groups([(Run("teacher", data=data, kind="teacher"), seed) for data, seed in wants_teacher])
        log("teachers")
        train(teachers, args.steps, log)
        finish(teachers)
        del teachers
    students = groups(networks)
    log("students" if wants_teacher else "networks")
    train(students, args.steps, log)
    # the weights first: they can be judged elsewhere
    kept = {
        f"{run.name}|{run.data}|{seed}|{name}": tensor.half().cpu().numpy()
        for group in students
        for run, seed, state in zip(group.runs, group.seeds, group.ensemble.states(), strict=True)
        if run.name in plans.KEPT
        for name, tensor in state.items()
    }
    np.savez(args.out / "weights.npz", **kept)
    finish(students)
    about = {"how": how, "runs": [{**asdict(run), "seed": seed} for run, seed in networks]}
    if device.type == "cuda":
        about["card"], about["peak_gib"] = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() / 2**30
    (args.out / "about.json").write_text(json.dumps({**about, "torch": torch.__version__}, indent=1))
    log("done")


if __name__ == "__main__":
    main()
