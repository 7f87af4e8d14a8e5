"""What the documentation tells people to type is what the commands take."""

import re
import shlex
from pathlib import Path

import pytest

from nnunet_shapekd.commands import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def code_lines(document: Path) -> list[str]:
    """The lines of a document's code blocks; one that ends in a backslash goes on in the next."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def shapekd_commands() -> list[str]:
    # [OPTIONAL] arguments and … stand for what the reader fills in
    lines = {line for document in DOCUMENTS for line in code_lines(document)}
    return sorted(line for line in lines if line.startswith("shapekd ") and not set("…[") & set(line))


def test_there_are_commands_to_check():
    assert len(shapekd_commands()) > 30


@pytest.mark.parametrize("line", shapekd_commands())
def test_a_documented_command_parses(line):
    arguments = shlex.split(line, comments=True)[1:]
    assert cli.make_parser().parse_args(arguments).command


def test_documented_trainers_exist():
    named = {name for document in DOCUMENTS for name in re.findall(r"-tr (nnUNetTrainer\w*)", document.read_text())}
    ours = {name for name in named if re.search("MeanImage|ShapeKD", name)}
    source = "\n".join(path.read_text() for path in (ROOT / "trainers").glob("*.py"))
    assert ours and not [name for name in ours if f"class {name}(" not in source]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert not [link for link in links if not (document.parent / link).exists()]


def test_what_proves_a_recipe_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipes = text.split("## Recipes")[1].split("\n## ")[0].split("\n**")[1:]
    assert len(recipes) == 5
    for recipe in recipes:
        files, tests = re.findall(r"tests/\w+/test_\w+\.py", recipe), re.findall(r"`(test_\w+)`", recipe)
        assert files and all((ROOT / file).is_file() for file in files), recipe
        source = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        assert not [test for test in tests if f"def {test}(" not in source], recipe


def anchors(document: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_headings_lead_to_one(document):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8"))
    assert not [(path, to) for path, to in links if to not in anchors(document.parent / path if path else document)]
