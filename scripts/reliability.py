"""Tries hard to break a training and its checkpoints, as often as is asked for.

    python scripts/reliability.py damage CHECKPOINT --trials 1000
    python scripts/reliability.py kill FOLDER --trials 27 -- 27 2d 0 -tr nnUNetTrainerShapeKD_5epochs

``damage`` cuts the file, turns a bit or empties a page, at random places of a copy: each must be recognised.
``kill`` starts nnUNetv2_train with what follows ``--``, ends it with SIGKILL after a random time and continues it with
--c, as often as trials say; then it is left alone. FOLDER is its fold's folder. After each kill the newest checkpoint
must be whole and no epoch lost that a checkpoint had held; in the end the log must have each epoch once.
The tests have both at a small size. Exit code 1: something did not hold.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nnunet_shapekd.files.checkpoints import DamagedCheckpointError, read_checkpoint

PAGE = 4096
#: of a continued training's, the first that is there is the one it goes on from
NAMES = ("checkpoint_final.pth", "checkpoint_latest.pth")


def damaged(content: bytes, kind: str, place: int) -> bytes:
    if kind == "cut":
        return content[:place]
    if kind == "bit":
        return content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
    start = place - place % PAGE
    return content[:start] + bytes(len(content[start : start + PAGE])) + content[start + PAGE :]


def damage(checkpoint: Path, trials: int) -> int:
    """How many damaged copies were taken for whole ones."""
    content, unseen = checkpoint.read_bytes(), 0
    before = read_checkpoint(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / checkpoint.name
        for trial in range(trials):
            kind, place = ("cut", "bit", "page")[trial % 3], random.randrange(len(content))
            broken = damaged(content, kind, place)
            if broken == content:  # a page that was empty
                continue
            copy.write_bytes(broken)
            try:
                found = read_checkpoint(copy)
            except DamagedCheckpointError:
                continue
            if not same(before, found):
                unseen += 1
                print(f"{kind} at {place} of {len(content)} bytes was not recognised")
    return unseen


def same(one: object, other: object) -> bool:
    """Whether what was read is equal: damage between a file's entries changes nothing."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    equal = one == other
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def epochs(folder: Path) -> int:
    """What the newest checkpoint holds; 0 if there is none yet."""
    for name in NAMES:
        if (folder / name).exists():
            return int(read_checkpoint(folder / name)["current_epoch"])
    return 0


def kill(folder: Path, trials: int, longest: float, arguments: list[str]) -> int:
    """How often something was lost."""
    lost, held = 0, 0
    if folder.exists():
        sys.exit(f"{folder} is there: move it away, this begins a training anew")
    for trial in range(trials + 1):
        command = ["nnUNetv2_train", *arguments, *(["--c"] if trial else [])]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        if trial < trials:
            time.sleep(random.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
            process.wait()
        elif process.wait():
            sys.exit(f"the last run failed: {' '.join(command)}")
        now = epochs(folder)
        print(f"{trial}: epoch {now}")
        lost += now < held
        held = max(held, now)
    log = read_checkpoint(folder / NAMES[0])["logging"]["epoch_start_timestamps"]
    return lost + (len(log) != held or list(log) != sorted(set(log)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("damage", "checkpoint"), ("kill", "folder")):
        command = commands.add_parser(name)
        command.add_argument(what, type=Path)
        command.add_argument("--trials", type=int, required=True)
        command.add_argument("--seed", type=int, default=0)
    command.add_argument("--longest", type=float, default=60, help="seconds until a kill (default: up to %(default)s)")
    command.add_argument("arguments", nargs="+", help="of nnUNetv2_train")
    args = parser.parse_args()
    random.seed(args.seed)
    if args.command == "damage":
        wrong = damage(args.checkpoint, args.trials)
    else:
        wrong = kill(args.folder, args.trials, args.longest, args.arguments)
    print(f"{args.trials} trials, {wrong} went wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
