"""The arrows between packages, rooms and modules, and what the algorithm's floor may touch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mpfl", "clients", "server", "benchmarks")
MAY_IMPORT = {
    "mpfl": {"mpfl"},
    "clients": {"mpfl", "clients"},
    "server": {"mpfl", "server"},
    "benchmarks": set(PACKAGES),
}
MOST_MODULES = {
    **{"mpfl": 15, "benchmarks": 4, "benchmarks/cli": 15},
    **{"clients/methods": 16, "server/methods": 18},
}
USUAL_MOST = 13
"""Modules in one folder; methods are as many as there are methods, and so are sub-commands."""
READS_HANDED_PATHS = {
    "mpfl/data/folder.py",
    "mpfl/data/natural.py",
    "mpfl/data/vision.py",
    "mpfl/presets/files.py",  # and the presets beside it
    "mpfl/plugins/source.py",
    "mpfl/recipes/__init__.py",  # its own file
}
READING = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, at any depth."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def top_imports(package: str) -> Iterator[tuple[Path, str]]:
    for file in sources(package):
        for name in imported(file):
            yield file, name.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_floors_below_it(package: str) -> None:
    assert sources(package), "an empty package would prove nothing"
    forbidden = {*PACKAGES, "tests", "examples"} - MAY_IMPORT[package]
    wrong = [(str(f.relative_to(ROOT)), top) for f, top in top_imports(package) if top in forbidden]
    assert wrong == []


def test_algorithm_never_imports_flower_in_its_sources() -> None:
    assert [f for f, top in top_imports("mpfl") if top in {"flwr", "ray"}] == []


def test_algorithm_loads_no_flower_and_no_upper_floor() -> None:
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in sources("mpfl")]
    modules = [name.removesuffix(".__init__") for name in names]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(tops & {'flwr', 'ray', 'clients', 'server', 'benchmarks', 'tests'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_algorithm_reads_no_clock() -> None:
    clocks = {"time", "datetime", "timeit"}
    assert [str(f.relative_to(ROOT)) for f, top in top_imports("mpfl") if top in clocks] == []


def test_algorithm_opens_files_only_where_paths_are_handed_to_it() -> None:
    found = set()
    for file in sources("mpfl"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                function = node.func
                name = getattr(function, "attr", getattr(function, "id", ""))
                if name in READING:
                    found.add(str(file.relative_to(ROOT)))
    assert found <= READS_HANDED_PATHS


def test_algorithm_draws_randomness_only_from_its_seeding() -> None:
    wrong = []
    for file in sources("mpfl"):
        if file.name == "seeding.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "np.random.default_rng",
                "np.random.seed",
                "torch.manual_seed",
                "torch.Generator",
                "random.random",
                "random.seed",
            }:
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_but_tests_asserts(package: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sources(package)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert wrong == []


def test_every_method_has_a_half_on_each_side() -> None:
    halves = {
        side: {f.stem for f in (ROOT / side / "methods").glob("*.py")}
        for side in ("clients", "server")
    }
    shared = {"base", "averaging", "consensus", "__init__"}
    from clients.methods import METHODS as CLIENT
    from server.methods import METHODS as SERVER

    assert CLIENT.names() == SERVER.names()
    assert halves["clients"] - shared <= halves["server"]


def modules() -> dict[str, Path]:
    """Return the file of every module of the four packages, by dotted name."""
    found = {}
    for file in (file for package in PACKAGES for file in sources(package)):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = file
    return found


def needs(file: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the four packages that a file needs in order to be imported."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                found.add(module if module in known else str(node.module))
    return found & known.keys()


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return what is left when everything that leads to no circle has been taken away."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_the_search_for_circles_finds_one() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_no_module_needs_itself() -> None:
    known = modules()
    assert circle({name: needs(file, known) for name, file in known.items()}) == []


def test_no_room_needs_itself() -> None:
    """A room is a folder, or a module that stands in none; façades are doors, not rooms."""
    known = modules()

    def room(name: str) -> str:
        folder = known[name].parent.relative_to(ROOT)
        return name if len(folder.parts) == 1 else ".".join(folder.parts)

    arrows: dict[str, set[str]] = {}
    for name, file in known.items():
        if file.name != "__init__.py":
            arrows.setdefault(room(name), set()).update(map(room, needs(file, known)))
    for name, targets in arrows.items():
        targets.discard(name)
    assert circle(arrows) == []


def test_no_folder_is_crowded() -> None:
    crowded = {}
    for folder in {file.parent for file in modules().values()}:
        count, name = len(list(folder.glob("*.py"))), str(folder.relative_to(ROOT))
        if count > MOST_MODULES.get(name, USUAL_MOST):
            crowded[name] = count
    assert crowded == {}


def test_the_design_names_every_room_and_no_other() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    table = text[text.index("| folder | rooms |") :].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([\w/]+)` \| (.*) \|$", table, re.MULTILINE))
    named = {f"{folder}/{room}.py" for folder, row in rows.items()
             for room in re.findall(r"`(\w+)`", row)}  # fmt: skip
    rooms = {str(file.relative_to(ROOT)) for file in modules().values()}
    assert named == {room for room in rooms if not room.endswith("__init__.py")}
