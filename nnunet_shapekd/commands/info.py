"""``shapekd info``: what a checkpoint says about where it comes from. Nothing in the file is run."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint_*.pth")
    parser.add_argument("--cases", action="store_true", help="name the cases instead of counting them")
    parser.add_argument("--json", action="store_true", help="print JSON, with all cases")


def run(args: argparse.Namespace) -> int:
    """Print what a checkpoint of nnU-Net says about itself: trainer, plans, settings, teacher, cases and the SHA-256 of
    its weights. Code in the file is not run.
    """
    from nnunet_shapekd.files.provenance import provenance_of

    provenance = provenance_of(args.checkpoint)
    if args.json:
        print(json.dumps(provenance, indent=2, default=str))
    else:
        print("\n".join(lines(provenance, args.cases)))
    return 0


def lines(provenance: Mapping[str, Any], cases: bool = False) -> Iterator[str]:
    """The report for a reader, who may want all cases named instead of counted."""
    from nnunet_shapekd.files.provenance import label

    if provenance["role"] is None:
        yield "No shapekd provenance: neither a teacher's nor a student's trainer of this package wrote this file."
    for key, value in provenance.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            yield f"{label(key)}:"
            for name, entry in value.items():
                # settings keep the names by which they are set
                yield _line(f"  {name if key == 'settings' else label(name)}", entry, cases)
        else:
            yield _line(label(key), value, cases)


def _line(name: str, value: Any, cases: bool) -> str:
    text = str(value)
    if isinstance(value, (list, tuple)):
        text = " ".join(map(str, value)) if cases else f"{len(value)} (--cases names them)"
    # what a foreign file holds must not control the terminal
    return "".join(c if c.isprintable() else "?" for c in f"{name + ':':<19} {text}")
