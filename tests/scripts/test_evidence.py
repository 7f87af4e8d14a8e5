"""The tables of docs/evidence.md and of the README are what the committed rows say."""

import csv
import re
import sys
from collections.abc import Callable

import pytest
from conftest import ROOT
from test_experiments import load

COMMAND = re.compile(r"<!-- evidence_table\.py (.*) -->\n")
TABLE = re.compile(rf"((?:{COMMAND.pattern})+)((?:\|.*\n)+)")


def rows_of(text: str) -> list[tuple[str, list[str]]]:
    """Of every row that begins with a run's name in backticks: the name, and the other cells."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [(first.split("`")[1], cells) for first, *cells in rows]


@pytest.fixture
def printed(monkeypatch, capsys) -> Callable[[str], list[tuple[str, list[str]]]]:
    def rows(arguments: str) -> list[tuple[str, list[str]]]:
        monkeypatch.setattr(sys, "argv", ["evidence_table.py", *arguments.split()])
        load("experiments/evidence_table.py").main()
        return rows_of(capsys.readouterr().out)

    return rows


def test_every_table_is_what_its_command_prints(printed):
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    of_tables = TABLE.findall(text)
    assert of_tables and sum(len(COMMAND.findall(commands)) for commands, *_ in of_tables) == text.count("<!-- ")
    for commands, _, table in of_tables:
        known = [row for arguments in COMMAND.findall(commands) for row in printed(arguments)]
        rows = rows_of(table)
        assert rows and [row for row in rows if row not in known] == [], commands


def test_the_short_table_of_the_readme_is_the_same(printed):
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Measured so far")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ")[1:] for line in text.splitlines() if line.startswith("| ")][1:]
    known = [printed(f"stock{longer} ramp{longer} mean-jitter{longer} --fold 1")[3:6] for longer in ("", "-5x")]
    assert lines == [[cells[0], cells[3], cells[5]] for of_budget in known for _, cells in of_budget]


def test_the_gradients_are_the_committed_ones():
    with (ROOT / "docs" / "evidence" / "why.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    table = text[text.index("| run | cosine of the two gradients |") :].split("\n\n")[0]
    for run, cells in rows_of(table):
        for metric, cell in zip(("cosine", "norm"), cells, strict=True):
            values = [float(row["value"]) for row in found if (row["run"], row["metric"]) == (run, metric)]
            assert cell == ", ".join(f"{value:.2f}" for value in values) != ""
