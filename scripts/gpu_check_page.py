"""The GPU check's page: a report's content in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import benchmark

FULL, HALF = map(benchmark.student_name, (1.0, 0.5))
FORWARD = benchmark.forward_name(1.0)
FACTS = ("gpu", "gpus", "gpu_memory_bytes", "compute_capability", "driver", "cuda", "cudnn", "torch", "nnunetv2")
FACTS += ("nnunet_shapekd", "commit", "python", "system", "cpu", "cores", "seconds")


def page(content: dict) -> str:
    """Markdown of what ``gpu_check.json`` holds."""
    parts = content["parts"]
    number = {
        status: sum(part["status"] == status for part in parts.values()) for status in ("passed", "failed", "not run")
    }
    lines = ["# GPU check", ""]
    if content["toy"]:
        lines += ["**On a CPU with toy networks: that everything runs is checked; the times mean nothing.**", ""]
    lines += [", ".join(f"{count} {status}" for status, count in number.items()) + " of the parts.", ""]
    lines += table(["", ""], [[name, content[name]] for name in FACTS if content.get(name) is not None])
    seconds = [[name, part["status"], f"{part.get('seconds', 0):.0f}", last_line(part)] for name, part in parts.items()]
    lines += ["## Parts", "", *table(["part", "", "s", ""], seconds), *timings(parts), *trainings(parts)]
    for name, part in parts.items():
        if part["status"] == "failed":
            lines += [f"## {name} failed", "", "```", part["reason"].replace("```", "'''"), "```", ""]
    return "\n".join(lines)


def last_line(part: dict) -> str:
    lines = part.get("reason", "").strip().splitlines()
    return lines[-1].replace("|", "/")[:200] if lines else ""


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return []
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


def timings(parts: dict) -> Iterator[str]:
    timed = [part for name, part in parts.items() if name.startswith("time-") and part["status"] == "passed"]
    if not timed:
        return
    steps, shares, memory = [], [], []
    for part in timed:
        rows = {row["what"]: row for row in part["rows"] if row["against"] == benchmark.STOCK}
        size = f"{'x'.join(map(str, part['patch_size']))}, batch {part['batch_size']}"
        case = [part["case"], size, "compiled" if part["compile"] else "eager"]
        stock = f"{rows[benchmark.STOCK]['median_ms']:.1f}"
        steps.append(
            [*case, stock, *(with_bound(rows[name]) for name in (FULL, HALF, benchmark.MOVES, benchmark.TEACHER))]
        )
        share = part["distillation_share"]
        shares.append([*case, *(percent(rows[name]) for name in (benchmark.CLASS_MEAN, FORWARD))])
        shares[-1].append(percent({"ratio": share["median"], **share}))
        if rows[benchmark.STOCK]["memory_bytes"]:
            of = (FULL, HALF, benchmark.MOVES, benchmark.TEACHER)
            mebibytes = f"{rows[benchmark.STOCK]['memory_bytes'] / 2**20:.0f}"
            memory.append([*case, mebibytes, *(f"{rows[name]['memory_ratio']:.3f}" for name in of)])
    head = ["plans", "patch", ""]
    others = ["student", "student, half-width teacher", "mean jitter", "teacher"]
    yield from [
        "## A step over a stock step",
        "",
        "Medians of the rounds' ratios (95 % interval); bound: by FLOPs.",
        "",
    ]
    yield from table([*head, "stock, ms", *others], steps)
    yield from ["## Parts of a student's step, in % of a stock step", ""]
    yield from table([*head, "class mean", "teacher's forward", "distillation's loss"], shares)
    if memory:
        yield from [
            "## Peak memory",
            "",
            *table([*head, "stock, MiB", *(f"{name} / stock" for name in others)], memory),
        ]


def with_bound(row: dict) -> str:
    return f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f}), bound {row['flop_bound']:.2f}"


def percent(row: dict) -> str:
    return f"{100 * row['ratio']:.2f} ({100 * row['low']:.2f} to {100 * row['high']:.2f})"


def trainings(parts: dict) -> Iterator[str]:
    rows = []
    for name, part in parts.items():
        for role in ("teacher", "student"):
            if part["status"] == "passed" and role in part:
                run = part[role]
                epochs = " ".join(f"{seconds:.1f}" for seconds in run["seconds_per_epoch"])
                distillation = run["distillation_losses"]
                losses = [f"{run['losses'][-1]:.3f}", f"{distillation[-1]:.4f}" if distillation else ""]
                rows.append([name, role, epochs, *losses])
    if rows:
        yield from ["## Trainings of the phantom", ""]
        yield from table(["part", "", "seconds of each epoch", "last loss", "last distillation loss"], rows)
