"""Trainers that are in no file: each kind of this package's over each variant of nnU-Net's, made when asked for."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import nnunetv2.training.nnUNetTrainer as nnunets_folder
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_shapekd.trainers_folder import trainers_folder


def variants_of(kind: type[nnUNetTrainer]) -> Callable[[str], type[nnUNetTrainer]]:
    """The ``__getattr__`` of a trainer's file: ``KIND_<variant>`` for every variant that nnU-Net has.

    nnU-Net's look-up asks each module of a folder for a name with ``hasattr`` and then ``getattr``.

    Args:
        kind: the file's plain class; its last base is nnU-Net's trainer, whose place the variant takes, and its body is
            empty.

    Returns:
        Name -> class, the same one whenever it is asked; raises AttributeError for any other name, as a module does.
    """

    @cache
    def __getattr__(name: str) -> type[nnUNetTrainer]:
        own, _, variant = name.partition("_")
        stock = nnunets_variants().get(variant) if own == kind.__name__ else None
        if stock is None:
            raise AttributeError(f"module {kind.__module__!r} has no attribute {name!r}")
        documentation = f"{kind.__doc__} Over nnU-Net's {stock.__name__}."
        return type(name, (*kind.__bases__[:-1], stock), {"__module__": kind.__module__, "__doc__": documentation})

    return __getattr__


@cache
def nnunets_variants() -> dict[str, type[nnUNetTrainer]]:
    """Variant, as in ``KIND_<variant>`` -> nnU-Net's own trainer, in the order of nnU-Net's folders.

    A variant is what the name of nnU-Net's trainer has after ``nnUNetTrainer``, with or without ``_``. A module that
    cannot be imported, perhaps for want of an optional dependency, has none.
    """
    found: dict[str, type[nnUNetTrainer]] = {}
    for module in pkgutil.walk_packages(nnunets_folder.__path__, f"{nnunets_folder.__name__}.", lambda name: None):
        try:
            members = vars(importlib.import_module(module.name))
        except Exception:  # whatever a module that nobody asked for may raise
            continue
        for name, member in members.items():
            match = re.fullmatch("nnUNet_?Trainer_?([^_].*)", name)  # nnU-Net 2.8 has a nnUNet_Trainer_BS8, too
            is_trainer = isinstance(member, type) and issubclass(member, nnUNetTrainer)
            if match and is_trainer and member.__module__ == module.name:
                found[match[1]] = member
    return found


def listing() -> Iterator[str]:
    """What there is, a line each: this package's kinds with what they are, then nnU-Net's variants to append to one."""
    folder = trainers_folder()
    variants = nnunets_variants()
    kinds = [path.stem for path in sorted(Path(folder).glob("nnUNetTrainer*.py"))]
    width = max(map(len, [*kinds, *variants])) + 2
    for name in kinds:
        kind = recursive_find_python_class(folder, name, None, cleanup_imports_from_base_folder=True)
        yield f"{name:{width}}{kind.__doc__.splitlines()[0]}"
    yield f"Each of them over any variant of nnU-Net's own, as in {kinds[0]}_NoMirroring:"
    for variant, stock in variants.items():
        yield f"{'_' + variant:{width}}{stock.__name__}"
