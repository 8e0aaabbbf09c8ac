"""Plugins: what a configuration makes of them, and whose parts are there when."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpfl.config import Experiment, from_mapping, from_toml, to_toml
from mpfl.errors import InputError
from mpfl.models import MODELS
from mpfl.plugins import digest, load, resolved
from mpfl.training.decay import DECAYS


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    load(Experiment())


def written(folder: Path, name: str, rate: float = 0.5, part: str = "mine", more: str = "") -> str:
    text = (
        "from mpfl.training.decay import DECAYS\n"
        f"def rate(step: int, steps: int) -> float:\n    return {rate}\n"
        f"DECAYS.register({part!r}, rate)\n{more}"
    )
    (folder / name).write_text(text)
    return str(folder / name)


def with_plugins(*names: str) -> Experiment:
    return from_mapping({"plugins": list(names)})


def rate() -> float:
    return float(DECAYS.bind("mine")(0, 1))


def test_the_text_of_a_file_is_part_of_the_configuration(tmp_path: Path) -> None:
    name = written(tmp_path, "study.py", more='TEXT = """a\\\\b"""  # ü\n')
    experiment = with_plugins(name)
    (plugin,) = experiment.plugins
    assert (plugin.name, plugin.source) == ("study.py", Path(name).read_text())
    Path(name).unlink()
    assert from_toml(to_toml(experiment)) == experiment
    load(experiment)
    assert rate() == 0.5


def test_a_path_is_relative_to_the_folder_of_the_configuration(tmp_path: Path) -> None:
    written(tmp_path, "study.py")
    (plugin,) = resolved({"plugins": ["./study.py"]}, tmp_path)["plugins"]
    assert plugin["name"] == "study.py"
    with pytest.raises(InputError, match=r"plugins: cannot read '\./study\.py': No such file"):
        resolved({"plugins": ["./study.py"]}, tmp_path / "elsewhere")


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    first, second = with_plugins(written(tmp_path, "a.py")), with_plugins(written(tmp_path, "b.py"))
    changed = with_plugins(written(tmp_path, "a.py", 0.25))
    both = from_mapping({"plugins": [*first.plugins, *second.plugins]})
    assert digest(Experiment()) == ""
    assert len({digest(each) for each in (Experiment(), first, second, changed, both)}) == 5
    assert digest(from_toml(to_toml(first))) == digest(first)


def test_parts_are_there_only_while_their_plugin_is_the_experiments(tmp_path: Path) -> None:
    half = with_plugins(written(tmp_path, "a.py", 0.5))
    tenth = with_plugins(written(tmp_path, "b.py", 0.1))
    load(half)
    assert rate() == 0.5
    load(tenth)
    assert rate() == 0.1
    load(half)
    assert rate() == 0.5
    load(Experiment())
    assert "mine" not in DECAYS


def test_a_file_that_has_changed_runs_again(tmp_path: Path) -> None:
    load(with_plugins(written(tmp_path, "study.py", 0.5)))
    load(with_plugins(written(tmp_path, "study.py", 0.25)))
    assert rate() == 0.25


def test_a_file_runs_once_for_each_content(tmp_path: Path) -> None:
    ran = str(tmp_path / "ran")
    name = written(tmp_path, "study.py", more=f"with open({ran!r}, 'a') as f: f.write('x')\n")
    for experiment in (with_plugins(name), Experiment(), with_plugins(name)):
        load(experiment)
    assert (tmp_path / "ran").read_text() == "x"


def test_the_same_file_named_twice_is_one_plugin(tmp_path: Path) -> None:
    name = written(tmp_path, "study.py")
    assert with_plugins(name, name) == with_plugins(name)


def test_two_plugins_may_not_register_one_name(tmp_path: Path) -> None:
    both = with_plugins(written(tmp_path, "a.py"), written(tmp_path, "b.py"))
    with pytest.raises(InputError, match=r"'a\.py' and 'b\.py' both register the learning"):
        load(both)
    load(with_plugins(written(tmp_path, "a.py")))
    assert rate() == 0.5


def test_a_plugins_part_goes_before_that_of_a_script(tmp_path: Path) -> None:
    DECAYS.register("mine_too", lambda step, steps: 1.0)
    load(with_plugins(written(tmp_path, "a.py", 0.5, "mine_too")))
    assert DECAYS.bind("mine_too")(0, 1) == 0.5
    load(Experiment())
    assert DECAYS.bind("mine_too")(0, 1) == 1.0


def test_dataclasses_and_their_annotations_work_in_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import get_type_hints\n"
        "@dataclass(frozen=True)\n"
        "class Options:\n    share: float = 0.5\n"
        "assert get_type_hints(Options) == {'share': float}\n"
    )
    load(with_plugins(str(tmp_path / "study.py")))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "own_study_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from own_study_package import parts\n")
    written(folder, "parts.py", part="of_a_module")
    yield folder
    for name in [name for name in sys.modules if name.startswith("own_study_package")]:
        del sys.modules[name]


def test_a_module_is_a_plugin_by_its_name(package: Path) -> None:
    experiment = with_plugins("own_study_package.parts")
    (plugin,) = experiment.plugins
    assert (plugin.name, plugin.source) == ("own_study_package.parts", "")
    importlib.import_module("own_study_package.parts")  # what a notebook may have done
    for wanted in (experiment, Experiment(), from_toml(to_toml(experiment))):
        load(wanted)
    assert DECAYS.bind("of_a_module")(0, 1) == 0.5


def test_the_digest_of_a_package_is_of_all_its_files(package: Path) -> None:
    before = with_plugins("own_study_package")
    written(package, "parts.py", 0.1, "of_a_module")
    assert digest(with_plugins("own_study_package")) != digest(before)
    with pytest.raises(InputError, match="own_study_package: this module holds other files than"):
        load(before)


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ("study.py", "plugins: got 'study.py', expected a list"),
        ([3], "plugins[0]: got 3, expected a table"),
        (
            ["no_such_module_here"],
            "plugins: no module 'no_such_module_here' can be imported here",
        ),
        (["no_such.module"], "plugins: no module 'no_such.module'"),
        (["."], "plugins: no module '.'"),
        (["/"], "plugins: cannot read '/': Is a directory"),
        (["x.py"], "plugins: cannot read 'x.py': No such file or directory"),
        ([{"name": "x.py"}], "no key 'plugins[0].sha256'"),
        ([{"name": "x.py", "sha256": "0", "source": "x"}], "the text of 'x.py' is not the one of"),
    ],
)
def test_what_is_no_plugin_is_refused_in_one_line(plugins: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        from_mapping({"plugins": plugins})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module_here\n", "study.py, line 1: ModuleNotFoundError: No module named"),
        ("x = 1\ny = (\n", "study.py, line 2: SyntaxError: '(' was never closed"),
        ("x = 1\n\ndef f():\n    return unknown\nf()\n", "study.py, line 4: NameError: name 'unkn"),
        ("x = 1 / 0\n", "study.py, line 1: ZeroDivisionError: division by zero"),
        ("from mpfl.models import MODELS\nMODELS.register('lenet300', print)\n",
         "study.py, line 2: model 'lenet300' comes with the library; choose another name"),
        ("\x00", "study.py: "),
        ("raise SystemExit(3)\n", "study.py, line 1: SystemExit: 3"),
    ],
)  # fmt: skip
def test_what_a_plugin_raises_is_said_in_one_line_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "study.py").write_text(text)
    with pytest.raises(InputError) as caught:
        load(with_plugins(str(tmp_path / "study.py")))
    assert said in str(caught.value)
    assert str(caught.value).startswith("plugins: ")
    assert "\n" not in str(caught.value)


def test_a_plugin_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    name = written(tmp_path, "study.py", more="oops\n")
    with pytest.raises(InputError, match="line 5: NameError"):
        load(with_plugins(name))
    assert "mine" not in DECAYS
    assert "lenet300" in MODELS
