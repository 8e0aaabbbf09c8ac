"""Cells of a comparison that share another one's run: their folders name it."""

from __future__ import annotations

from pathlib import Path

from mpfl.errors import InputError
from server.custody import check_file, digest_of, seal, write_atomically
from server.records import SharedRun, from_json, json_text

SHARED = "same_run.json"


def write_shared(folder: Path, record: SharedRun) -> None:
    """Say in a cell's folder whose run it shares."""
    content = (json_text(record, indent=2) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    seal(folder, {SHARED: digest_of(content)})
    write_atomically(folder / SHARED, content)


def read_shared(folder: Path) -> SharedRun | None:
    """Return whose run a cell shares; None for a run of its own. InputError where edited."""
    file = folder / SHARED
    if not file.is_file():
        return None
    check_file(folder, SHARED)
    found = from_json(SharedRun, file.read_text(encoding="utf-8", errors="replace"), str(file))
    inside = Path(found.cell).name == found.cell and found.cell not in ("", "..")
    if not inside or (folder.parent / found.cell / SHARED).exists():
        raise InputError(f"{file}: damaged ({found.cell!r} is no cell with a run of its own)")
    cells = folder.resolve().name, found.cell
    if not all(name.endswith(f"__seed{found.seed}") for name in cells):
        raise of_other_work(folder, found)
    return found


def of_other_work(folder: Path, shared: SharedRun) -> InputError:
    """Return the error for a cell that names a run which cannot be its own."""
    told = f"{shared.cell!r} is the run of other work than {folder.name!r}"
    return InputError(f"{folder / SHARED}: damaged ({told})")


def home_of(folder: Path) -> Path:
    """Return the run folder of a cell: its own, or the one that it shares."""
    shared = read_shared(folder)
    return folder if shared is None else folder.parent / shared.cell
