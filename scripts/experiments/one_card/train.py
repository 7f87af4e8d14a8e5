"""Train many small networks at once on one card, and judge them.

    python scripts/experiments/one_card/train.py STACKS.npz OUT --runs explored --seeds 0 --steps 7500

STACKS.npz is ``pack.py``'s; it is held on the card, patches are drawn and augmented there, and one CUDA graph holds the
step of all networks of a kind. OUT gets a row for each network, stack and structure, and the networks' weights.

Against nnU-Net's own training: the same network, loss, optimiser, learning rate's decay (by 50 steps), share of
forced foreground and list of augmentations, but bfloat16 instead of float16, intensities in 8 bits, a canvas of 288 mm,
and networks of one seed in one graph see the same patches in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import augment
import losses
import numpy as np
import peers
import runs as plans
import torch
from data import Stacks
from ensemble import CLASSES, FEATURES, PATCH, Descent, Ensemble, build
from judge import judge
from nnunet_batches import batches
from runs import Run

from nnunet_shapekd.files.output import new_file
from nnunet_shapekd.method.class_mean import class_mean_image
from nnunet_shapekd.method.intensity_moves import MoveRanges, apply_moves, draw_moves
from nnunet_shapekd.method.skipless_unet import without_skips

EPOCH = 50
#: the kinds of students, and the run that their teacher comes from
TEACHER_OF = {
    "distilled": Run("teacher", kind="teacher"),
    "from stock": Run("stock"),
}
#: the share of the moving average that each step renews
RENEWAL = 0.001
#: rounds after which weights are kept
KEPT = 1000
BATCH = 4


class Group:
    """Networks whose steps do the same.

    Args:
        runs: of one kind, agreement and length.
        seeds: one for each run; those of one seed see the same patches in the same order.
        number: of the group.
        teachers: weights of the students' teachers, one a network.
        batches: what one network is trained on in the stacks' place, image and classes, augmented.
    """

    def __init__(
        self,
        runs: list[Run],
        seeds: list[int],
        stacks: Stacks,
        steps: int,
        features: Sequence[int],
        precision: str,
        number: int = 0,
        teachers: list[dict[str, torch.Tensor]] | None = None,
        batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> None:
        self.runs, self.seeds, self.stacks, self.kind = runs, seeds, stacks, runs[0].kind
        self.number, self.batches, self.agree_on = number, batches, runs[0].agree_on
        self.steps, self.done = round(steps * runs[0].length), 0
        #: steps while the others take one, so that teachers are ready at half time
        self.pace = 2 if self.kind in ("teacher", "distilled") else 1
        device = self.device = stacks.device

        def networks(skips: bool) -> Ensemble:
            return Ensemble(lambda: build(features) if skips else without_skips(build(features)), seeds).to(device)

        self.ensemble = networks(self.kind != "teacher")
        averaged = self.kind == "from average" or any(run.averaged for run in runs)
        self.average = networks(True).requires_grad_(False) if averaged else None
        self.teacher = self.average if self.kind == "from average" else None
        if teachers:
            self.teacher = networks(self.kind != "distilled").requires_grad_(False)
            self.teacher.load(teachers)
        self.renewal = torch.ones((), device=device)
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
            for name in MoveRanges.__dataclass_fields__.keys() - {"share"}
        }
        self.share = self._of_samples([0.0] * n)
        self.late = self._of_samples([float(run.late) for run in runs]).bool().view(-1, 1, 1, 1)
        self.any_late = any(run.late for run in runs)
        self.ranges = MoveRanges(share=self.share, **of_sample)
        self.moves_at_all = any(run.moves["share"] for run in runs)
        self.weight = torch.zeros(n, device=device)
        self.views = torch.tensor([run.views for run in runs], device=device).T
        self.ce_weight = torch.ones(n, device=device)
        self.others = {
            name: self._of_samples([run.other_share * (run.other == name) for run in runs])
            for name in {run.other for run in runs} - {""}
        }
        self.losses = torch.zeros(n, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream: torch.cuda.Stream | None = None

    def _of_samples(self, of_runs: list[float]) -> torch.Tensor:
        return torch.tensor(of_runs, device=self.device).repeat_interleave(BATCH)

    def _drawn(self, make: Callable[..., torch.Tensor], *size: int) -> torch.Tensor:
        """Numbers of each sample, ``(n·BATCH, *size)``: the same for all networks of a seed."""
        numbers = make((self.n_seeds, BATCH, *size), device=self.device, generator=self.base)
        return numbers[self.seed_of].flatten(0, 1)

    def _moved(self, image: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        moves = draw_moves(image.shape, CLASSES, self.ranges, self.device, self.extra)
        return apply_moves(image, classes, CLASSES, moves)

    def _sample(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Image as the network sees it, classes, image before its intensities changed; and that, another view of it."""
        if self.batches:
            image, classes = next(self.batches)
            return image, classes, image, None
        u, noise = self._drawn(torch.rand, augment.NUMBERS + 4), self._drawn(torch.randn, 1, PATCH, PATCH)
        slices, centre = self.stacks.draw(self.pool, self.pool_size, u[:, :4], PATCH, self.forced)
        canvas, labels = self.stacks.values(slices), self.stacks.label[slices][:, None].long()
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
        clean = augment.intensities(as_it_was, u[:, 8:].flip(1), noise) if self.kind == "two views" else None
        return image, classes, as_it_was, clean

    def step(self) -> None:
        with torch.no_grad():
            image, classes, as_it_was, clean = self._sample()
        n = len(self.runs)
        x, target = image.view(n, BATCH, 1, PATCH, PATCH), classes.view(n, BATCH, PATCH, PATCH)
        if self.kind == "two views":
            x = torch.cat((x, clean.view_as(x)), 1)
        with self.autocast:
            features = self.ensemble.encoded(x)
            logits = self.ensemble.decoded(features)
        if self.kind == "two views":
            moved, clean = [part[:, :BATCH] for part in logits], [part[:, BATCH:] for part in logits]
            loss = self.views[0] * losses.segmentation(clean, target, self.ce_weight)
            loss = loss + self.views[1] * losses.segmentation(moved, target, self.ce_weight)
            if self.agree_on == "features":
                halves = [part[:BATCH] for part in features], [part[BATCH:] for part in features]
                loss = loss + self.weight * losses.feature_distance(*halves, n)
            else:
                loss = loss + self.weight * losses.divergence(moved, clean)
        else:
            loss = losses.segmentation(logits, target, self.ce_weight)
        if self.teacher:
            seen = class_mean_image(as_it_was, classes, CLASSES) if self.kind == "distilled" else as_it_was
            with torch.no_grad(), self.autocast:
                of_teacher = self.teacher(seen.view_as(x))
            loss = loss + self.weight * losses.divergence(logits, of_teacher)
        loss.sum().backward()
        self.descent.step()
        if self.average:
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.ensemble.parameters()), self.renewal)
        self.losses.add_(loss.detach())

    def schedule(self) -> None:
        """What changes from epoch to epoch."""
        done = self.done / self.steps
        self.rate.fill_(0.01 * (1 - done) ** 0.9)
        self.renewal.fill_(max(RENEWAL, 1 / (1 + self.done)))
        share, weight, ce = [], [], []
        for run in self.runs:
            now = run.moves["share"] * (min(1.0, done / run.ramp) if run.ramp else 1.0)
            if done > run.fall:
                now *= 1 - (1 - run.last) * (done - run.fall) / (1 - run.fall)
            share.append(0.0 if done >= 1 - run.rest else now)
            ramp = min(1.0, done / run.weight_ramp) if run.weight_ramp else 1.0
            weight.append(run.weight * ramp)
            ce.append(1 + run.labels * ramp)
        self.share.copy_(self._of_samples(share))
        self.weight.copy_(torch.tensor(weight))
        self.ce_weight.copy_(torch.tensor(ce))

    def prepare(self) -> None:
        """On a card, put a step into a CUDA graph."""
        if self.device.type != "cuda":
            return
        stream = torch.cuda.Stream()
        self.schedule()
        weights = [weight.detach().clone() for weight in self.ensemble.parameters()]
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.synchronize()
        for weight, before in zip(self.ensemble.parameters(), weights, strict=True):
            weight.data.copy_(before)
        if self.average:
            self.average.load_state_dict(self.ensemble.state_dict())
        for velocity in self.descent.velocity_of.values():
            velocity.zero_()
        self.losses.zero_()
        graph = torch.cuda.CUDAGraph()
        for generator in (self.base, self.extra):
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self.step()
        self.graph, self.stream = graph, stream
        torch.cuda.synchronize()

    def save(self, out: Path) -> None:
        """The networks' weights in half precision, whole or not at all."""
        if self.kind == "teacher":
            return
        kept = [(run.name, run, seed, state) for run, seed, state in self.of_each(self.ensemble)]
        if self.average:
            of_averages = self.of_each(self.average)
            kept += [(f"{run.name}-averaged", run, seed, state) for run, seed, state in of_averages if run.averaged]
        arrays = {
            f"{called}|{run.data}|{seed}|{name}": tensor.half().cpu().numpy()
            for called, run, seed, state in kept
            for name, tensor in state.items()
        }
        with new_file(self.weights_in(out)) as path, path.open("wb") as file:
            np.savez(file, **arrays)

    def of_each(self, ensemble: Ensemble) -> Iterable[tuple[Run, int, dict[str, torch.Tensor]]]:
        """Each network's run, seed and weights."""
        return zip(self.runs, self.seeds, ensemble.states(), strict=True)

    def weights_in(self, out: Path) -> Path:
        return out / f"weights-{self.kind.replace(' ', '-')}-{self.steps}-{self.number}.npz"

    def advance(self, steps: int) -> None:
        """Up to the end, without waiting for the card."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            for _ in range(steps):
                if self.done % EPOCH == 0 and self.done < self.steps:
                    self.schedule()
                if self.done < self.steps:
                    self.graph.replay() if self.graph else self.step()
                    self.done += 1


def train(
    waiting: list[Group],
    more: Callable[[Group], list[Group]],
    at_once: int,
    out: Path,
    log: Callable[[str], None],
) -> None:
    """All groups' networks, so many groups side by side, and those groups that ``more`` makes of one that is finished.

    Weights are kept every KEPT rounds, too: a machine may be taken away, and a last percent of the steps is little.
    """
    start, rounds, groups = time.time(), 0, []
    while waiting or groups:
        while waiting and len(groups) < at_once:
            groups.append(waiting.pop(0))
            groups[-1].prepare()
        for _ in range(EPOCH):
            for group in groups:
                group.advance(group.pace)
        rounds += EPOCH
        if groups[0].device.type == "cuda":
            torch.cuda.synchronize()
        if rounds % KEPT == 0:
            log(f"{rounds} rounds: {1000 * (time.time() - start) / rounds:.2f} ms each")
            for group in groups:
                means = " ".join(f"{value / (KEPT * group.pace):.3f}" for value in group.losses.tolist())
                log(f"  {group.kind}, step {group.done}, losses {means}")
                group.losses.zero_()
                group.save(out)
        for group in [group for group in groups if group.done == group.steps]:
            groups.remove(group)
            group.save(out)
            log(f"{group.kind}, {len(group.runs)} networks, {group.steps} steps: done")
            waiting[:0] = more(group)


def groups_of(networks: list[tuple[Run, int]], size: int) -> list[list[tuple[Run, int]]]:
    """Those that can share a step: of one kind, agreement and length, at most ``size``; in their order."""
    of_kinds: dict[tuple, list[tuple[Run, int]]] = {}
    for run, seed in networks:
        kind = (run.kind, run.agree_on, run.length, *((run.trainer, seed) if run.trainer else ()))
        of_kinds.setdefault(kind, []).append((run, seed))
    return [of_kind[i : i + size] for of_kind in of_kinds.values() for i in range(0, len(of_kind), size)]


def taught_by(run: Run, seed: int) -> tuple[str, str, int]:
    """Its teacher's run, data and seed."""
    return TEACHER_OF[run.kind].name, run.data, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", required=True, help="a list in runs.py")
    parser.add_argument("--steps", type=int, default=7500)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--size", type=int, default=40, help="most networks side by side in one graph")
    parser.add_argument("--prepared", type=Path, help="evidence.py's OUT, for runs with a trainer of nnU-Net's")
    parser.add_argument("--at-once", type=int, help="most graphs side by side; all of them if not given")
    parser.add_argument("--seed", type=int, help="only this seed's networks")
    parser.add_argument("--only", nargs="+", help="only these runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.time()
    to_log = (args.out / "log.txt").open("a")

    def log(text: str) -> None:
        for file in (None, to_log):
            print(f"{time.time() - begin:6.1f} s  {text}", file=file, flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # chooses while the graphs are warmed up
    torch.backends.cudnn.benchmark_limit = 4
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    stacks = Stacks(args.stacks, device)
    networks = [
        (run, seed)
        for run, seed in plans.LISTS[args.runs][0]
        if args.seed in (None, seed) and run.name in (args.only or [run.name])
    ]
    if not args.prepared and (of_trainers := sorted({run.name for run, _ in networks if run.trainer})):
        parser.error(f"{', '.join(of_trainers)}: --prepared is missing")
    log(f"{len(networks)} networks, {len(stacks.judged)} stacks, {device}")
    how = {"steps": args.steps, "features": args.features, "precision": args.precision}

    numbers, trained = itertools.count(), {}

    def made(of: list[tuple[Run, int]]) -> list[Group]:
        parts = [tuple(map(list, zip(*part, strict=True))) for part in groups_of(of, args.size)]
        return [
            Group(
                runs, seeds, stacks, args.steps, args.features, args.precision, next(numbers),
                [trained[taught_by(run, seed)] for run, seed in zip(runs, seeds, strict=True)]
                if runs[0].kind in TEACHER_OF else None,
                batches(runs[0].trainer, args.prepared, int(runs[0].data[-1]), seeds[0]) if runs[0].trainer else None,
            )
            for runs, seeds in parts
        ]  # fmt: skip

    students = [(run, seed) for run, seed in networks if run.kind in TEACHER_OF]
    first = [network for network in networks if network not in students]
    needed = {taught_by(*student): student for student in students}
    for key in needed.keys() - {(run.name, run.data, seed) for run, seed in first}:
        run, seed = needed[key]
        first.append((replace(TEACHER_OF[run.kind], data=run.data), seed))

    def finished(group: Group) -> list[Group]:
        """The students whose teachers are all there now; what is finished is judged."""
        if group.kind != "teacher":
            torch.backends.cudnn.benchmark = False  # each stack has a size of its own
            judge(stacks, [group.weights_in(args.out)], rows, plans.LISTS[args.runs][1], args.features)
            torch.backends.cudnn.benchmark = True
            log("judged")
        new = {(run.name, run.data, seed): state for run, seed, state in group.of_each(group.ensemble)}
        trained.update({key: state for key, state in new.items() if key in needed})
        return made([student for student in students if taught_by(*student) in new])

    rows = args.out / "rows.csv"
    rows.unlink(missing_ok=True)
    train(made(first), finished, args.at_once or len(networks), args.out, log)
    about = {"how": how, "runs": [{**asdict(run), "seed": seed} for run, seed in networks]}
    if device.type == "cuda":
        about["card"], about["peak_gib"] = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() / 2**30
    (args.out / "about.json").write_text(json.dumps({**about, "torch": torch.__version__}, indent=1))
    log("done")


if __name__ == "__main__":
    main()
