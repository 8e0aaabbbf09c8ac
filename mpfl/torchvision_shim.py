"""Make torchvision from the package index importable beside a CPU-only torch.

Import this module before torchvision. Such a torchvision lacks its compiled operators, and its
import fails when it registers shapes for ``nms``. Declaring the missing operators (without any
implementation) is enough; where they exist nothing is done.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def _load_extension() -> None:
    """Load torchvision's compiled operators, where they fit this torch."""
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            library = Path(folder) / f"_C{suffix}"
            if library.is_file():
                try:
                    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
                except OSError:
                    continue  # built for another torch: the operators stay missing
                return


def declare_missing() -> torch.library.Library | None:
    """Declare torchvision operators that this installation lacks.

    Returns
    -------
    The library object that owns the declarations (they vanish with it), or None where the
    operators exist already.
    """
    _load_extension()
    namespace = torch.ops.torchvision
    missing = [name for name in _OPERATORS if not hasattr(namespace, name)]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in missing:
        library.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]
    return library


LIBRARY = declare_missing()
"""Kept alive for as long as the process lives."""
