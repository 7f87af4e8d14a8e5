"""``shapekd info``: what a checkpoint says about where it comes from. Nothing in the file is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_shapekd.files.provenance import label, provenance_of


def lines(provenance: Mapping[str, Any], cases: bool = False) -> Iterator[str]:
    """The report for a reader.

    Args:
        provenance: from :func:`provenance_of`.
        cases: name all cases instead of counting them.
    """
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


def run(path: str, as_json: bool, cases: bool) -> int:
    """Print the report; returns the exit code."""
    provenance = provenance_of(path)
    if as_json:
        print(json.dumps(provenance, indent=2, default=str))
    else:
        print("\n".join(lines(provenance, cases)))
    return 0


def _line(name: str, value: Any, cases: bool) -> str:
    text = str(value)
    if isinstance(value, (list, tuple)):
        text = " ".join(map(str, value)) if cases else f"{len(value)} (--cases names them)"
    # what a foreign file holds must not control the terminal
    return "".join(c if c.isprintable() else "?" for c in f"{name + ':':<19} {text}")
