"""``shapekd phantom``: a synthetic heart to try things on."""

import argparse
import shlex


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("out", metavar="OUT", help="new or empty folder")
    add("--patients", type=int, default=20, help="training patients (default: %(default)s, at most 100)")
    add("--test-patients", type=int, default=5, help="test patients (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--scanner", choices=("a", "b", "c"), default="a",
        help="b is another scanner, c another sequence (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write a seeded synthetic short-axis cine heart in ACDC's folder layout: no patient's data, for trying things out.
    The same seed gives the same patients on every scanner.
    """
    from nnunet_shapekd.files.output import new_folder
    from nnunet_shapekd.phantom import write_phantom

    with new_folder(args.out) as folder:
        folders = write_phantom(folder, args.patients, args.test_patients, args.seed, args.scanner)
    print(f"Wrote {len(folders)} patients to {args.out}. Next: shapekd convert acdc {shlex.quote(args.out)}")
    return 0
