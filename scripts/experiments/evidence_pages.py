"""Every number in the tables of the README and of docs/evidence*, from the committed rows.

    python scripts/experiments/evidence_pages.py            print the tables
    python scripts/experiments/evidence_pages.py --write    put them into the pages
    python scripts/experiments/evidence_pages.py --check    fail if a page says something else

Above such a table a comment in the page's source says which ``evidence_table.py`` makes its rows; what a row is called
is the page's own, and so is the head where ``--columns`` are chosen. In a table of claims the last cell is the command
that makes the cells before it.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from pathlib import Path

from evidence_table import claim, parsed, printed, table

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "docs/evidence.md", "docs/evidence/details.md")]
COMMAND = re.compile(r"<!-- evidence_table\.py (.*) -->\n")
TABLE = re.compile(rf"(?P<commands>(?:{COMMAND.pattern})+)(?P<table>(?:\|.*\n)+)")
CLAIM = re.compile(r"^(?P<claim>\|[^|\n]*\|)[^\n]*\| `(?P<command>[^`\n]* --claim [^`\n]*)` \|$", re.MULTILINE)


def rebuilt(page: str) -> str:
    """A page's text with the tables that its commands make."""
    page = TABLE.sub(lambda found: found["commands"] + of_commands(found["commands"], found["table"]), page)
    return CLAIM.sub(lambda found: f"{found['claim']} {' | '.join(of_claim(found['command']))} |", page)


def of_commands(commands: str, before: str) -> str:
    """The rows of all commands in one table; rows and, where it names columns, the head keep what they are called."""
    all_args = [args_of(command) for command in COMMAND.findall(commands)]
    heads, *_ = tables = [table(args) for args in all_args]
    rows = [heads[0], *(row for one in tables for row in one[1:])]
    called = [[cell.strip() for cell in line.split("|")[1:-1]] for line in before.splitlines()]
    del called[1]  # the rule
    if len(called) == len(rows):
        rows = [[of_page[0], *row[1:]] for of_page, row in zip(called, rows, strict=True)]
        if all_args[0].columns and len(called[0]) == len(rows[0]):
            rows[0] = called[0]
    return printed(rows) + "\n"


def of_claim(command: str) -> list[str]:
    return [*claim(args_of(command)), f"`{command}`"]


def args_of(command: str) -> argparse.Namespace:
    return parsed(shlex.split(command))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true")
    what.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = []
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        page = rebuilt(before)
        name = path.relative_to(ROOT).as_posix()
        if args.write:
            path.write_text(page, encoding="utf-8")
        elif args.check:
            stale += difflib.unified_diff(before.splitlines(), page.splitlines(), name, "the rows", n=0, lineterm="")
        else:
            for found in (*TABLE.finditer(page), *CLAIM.finditer(page)):
                print(f"{name}: {found.group()}")
    if stale:
        raise SystemExit("\n".join(stale))


if __name__ == "__main__":
    main()
