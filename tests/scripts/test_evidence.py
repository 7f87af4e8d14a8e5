"""What the README and docs/evidence* say is what the committed rows say."""

import re
from types import ModuleType

import pytest
from test_experiments import script

#: protocol, the paper's results, and the one look whose rows were not kept
NOT_OF_ROWS = {"0.75", "0.18", "1.0", "9.9", "84.2", "85.8", "91.5"}
#: what the README calls a run by
TRAINERS = dict.fromkeys(("mean-jitter", "mean-jitter-5x"), "nnUNetTrainerMeanJitter")


#: made from other rows, see test_one_card.py
OF_ONE_CARD = re.compile(r"<!-- \w+ -->\n.*?<!-- end -->\n", re.DOTALL)


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return script("evidence_pages")


@pytest.fixture(scope="module")
def texts(pages) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in pages.PAGES}


@pytest.mark.parametrize("name", ["README.md", "evidence.md", "details.md"])
def test_every_table_is_what_its_command_makes(pages, texts, name):
    assert pages.rebuilt(texts[name]).splitlines() == texts[name].splitlines()


def test_no_table_of_results_is_without_a_command(pages, texts):
    for text in texts.values():
        commands = "".join(table["commands"] for table in pages.TABLE.finditer(text))
        assert pages.COMMAND.findall(commands) == pages.COMMAND.findall(text)
        others = OF_ONE_CARD.sub("", pages.CLAIM.sub("", pages.TABLE.sub("", text)))
        assert not re.findall(r"^\|.* [+-]\d+\.\d.*\|$", others, re.MULTILINE)


def test_every_row_is_called_what_its_command_calls_it(pages, texts):
    for table in (found for text in texts.values() for found in pages.TABLE.finditer(text)):
        runs = [run for command in pages.COMMAND.findall(table["commands"]) for run in pages.args_of(command).runs]
        names = [line.split("|")[1].strip() for line in table["table"].splitlines()[2:]]
        assert [name.split("`")[1] if name.startswith("`") else run for name, run in zip(names, runs, strict=True)] == [
            TRAINERS.get(run, run) if "`nnUNetTrainer" in table["table"] else run for run in runs
        ]


def test_every_claim_has_its_n_its_difference_and_a_command(pages, texts):
    rows = texts["evidence.md"].split("| claim |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 20 and all(pages.CLAIM.fullmatch(row) for row in rows)


@pytest.mark.parametrize("name", ["README.md", "evidence.md", "details.md"])
def test_a_wrong_number_is_put_right(pages, texts, name):
    right = OF_ONE_CARD.sub("", texts[name])
    wrong = re.sub(r"^(\|.*)\+(\d)\.", r"\1+7\2.", right, flags=re.MULTILINE)
    assert wrong != right and pages.rebuilt(wrong).splitlines() == right.splitlines()


def test_the_text_has_no_number_that_no_table_has(pages, texts):
    """A typing error in the text beside the tables."""
    tables = [found.group() for text in texts.values() for found in pages.TABLE.finditer(text)]
    claims = [found.group() for found in pages.CLAIM.finditer(texts["evidence.md"])]
    texts = texts | {"README.md": texts["README.md"].split("## Measured so far")[1].split("\n## ")[0]}
    prose = " ".join(pages.CLAIM.sub("", pages.TABLE.sub("", text)) for text in texts.values())
    number = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")
    assert set(number.findall(prose)) - set(number.findall(" ".join(tables + claims))) <= NOT_OF_ROWS


def test_the_rows_are_small_and_have_what_they_are_of():
    rows = script("evidence_rows")
    assert rows.VALUES.stat().st_size <= 2_000_000
    values, runs = rows.read(rows.VALUES), rows.read(rows.PROVENANCE)
    keys = [tuple(row[name] for name in rows.KEY) for row in runs]
    assert set(keys) == {tuple(row[name] for name in rows.KEY) for row in values} and len(keys) == len(set(keys))
    assert tuple(values[0]) == rows.COLUMNS["values.csv.gz"] and tuple(runs[0]) == rows.COLUMNS["runs.csv"]
