"""The rooms stand as the design says: what each may import, no circle, nothing upwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

#: room -> the rooms it may import, method on the ground; a room imports itself freely
MAY_IMPORT = {
    "method": set(),
    "files": set(),
    "drawing": set(),
    "phantom": set(),
    "trainers_folder": set(),
    "training": {"method", "files", "drawing", "trainers_folder"},
    "trainers": {"training"},
    "dataset_conversion": {"evaluation", "files"},
    "evaluation": {"files"},
    "across": {"training", "evaluation", "files"},
    "figure": {"method", "training", "files", "drawing"},
    "report": {"training", "evaluation", "files", "drawing"},
    "stress": {"across", "evaluation", "files", "drawing"},
    "commands": {  # and the conversions, by name
        *("training", "evaluation", "across", "stress", "figure", "report", "files", "phantom", "trainers_folder"),
    },
}
#: what imports no torch, so that a conversion or an evaluation starts at once
WITHOUT_TORCH = ("dataset_conversion", "evaluation", "report", "drawing", "phantom", "trainers_folder")


def modules() -> dict[str, Path]:
    """Module as it is installed -> its file."""
    found = {}
    for folder, package in (
        ("nnunet_shapekd", "nnunet_shapekd"),
        ("trainers", "nnunet_shapekd.trainers"),
        ("dataset_conversion", "nnunet_shapekd.dataset_conversion"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


def imports(path: Path, known) -> set[str]:
    """This package's modules that a file imports, anywhere in it: in functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return {name for name in found if name.split(".")[0] == "nnunet_shapekd" and name != "nnunet_shapekd"}


def room(module: str) -> str:
    return module.split(".")[1]


MODULES = modules()
ARROWS = {module: imports(path, MODULES) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", [module for module in MODULES if module != "nnunet_shapekd"])
def test_a_module_imports_only_the_rooms_its_own_may_import(module):
    assert {room(other) for other in ARROWS[module]} - {room(module)} <= MAY_IMPORT[room(module)]


def test_no_import_of_this_package_leads_back_to_where_it_started():
    left = {module: set(others) for module, others in ARROWS.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left


def test_every_room_says_in_one_line_what_it_holds():
    for module, path in MODULES.items():
        documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert documentation, f"{module} has no docstring"
        if path.name == "__init__.py":
            assert "\n" not in documentation, f"{module}'s docstring has several lines"


def test_the_arrows_of_the_design_are_all_used():
    used = {(room(module), room(other)) for module, others in ARROWS.items() for other in others if module.count(".")}
    allowed = {(own, other) for own, others in MAY_IMPORT.items() for other in others}
    assert not allowed - used


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_these_rooms_import_no_torch(name):
    own = [module for module in MODULES if module.count(".") and room(module) == name]
    command = f"import sys, importlib\nfor m in {own}: importlib.import_module(m)\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
