"""What people type and paste: one line and status 2 for what is wrong; names stay as they are."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import keys
from benchmarks.cli import console
from benchmarks.cli.console import Reporter
from benchmarks.cli.main import COMMANDS, command, invoke
from benchmarks.report.table import table_csv, table_text
from benchmarks.results.rows import comparison_table
from mpfl.errors import RunError
from tests.handmade import run_of

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"data.clients": 2, "prune.rounds": 1, "federation.rounds": 1, "engine.workers": 0}
SETS = [text for key, value in SMALL.items() for text in ("--set", f"{key}={value}")]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a refused command prints, and nothing else."""
    assert invoke(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mpfl: ")
    assert said.err.count("\n") == 1
    assert len(said.err) < 3000
    return said.err


def program(
    *arguments: str, folder: Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
    )


# ------------------------------------------------------------------------------ comparisons

WRONG_TABLES = {
    "compare=3": "compare: got 3, expected a table",
    "compare.methods=3": "compare.methods: got 3",
    "compare.methods=[]": "compare.methods: got [], expected at least one",
    "compare.methods=[3]": "compare.methods[0]: got 3",
    "compare.methods=['mpfll']": "compare.methods: unknown method 'mpfll'; did you mean 'mpfl'",
    "compare.methods=['']": "compare.methods",
    "compare.seeds='x'": "compare.seeds: got 'x'",
    "compare.seeds=[-1]": "seed: got -1",
    "compare.seeds=[0, 1, 0]": "compare.seeds: 0 stands there twice",
    "compare.baseline=3": "compare.baseline: got 3",
    "compare.baseline=fedavgx": "compare.baseline: unknown method 'fedavgx'; did you mean 'fedavg'",
    "compare.margin=-5": "compare.margin: got -5.0",
    "compare.margin=abc": "compare.margin: got 'abc'",
    "compare.margin=nan": "compare.margin: got nan",
    "compare.best_of=['fedavgx']": "compare.best_of: unknown method 'fedavgx'",
    "compare.best_of=3": "compare.best_of: got 3",
    "compare.ladder=3": "compare.ladder: got 3",
    "compare.ladder={a = 'fedavg', b = 'mpfll'}": "compare.ladder: unknown method 'mpfll'",
    "compare.ladder={a = 'fedavg'}": "expected two or more steps, each another method or variant",
    "compare.ladder={a = 'mpfl', b = 'mpfl'}": "expected two or more steps, each another method",
    'compare.ladder={"\\u001b" = "mpfl", b = "fedavg"}': "expected printable steps",
    "compare.adjust=[{when = {label = 'mpfll'}, set = {}}]": "compare.adjust: unknown method",
    "compare.adjust=[{when = {data = 'digits'}, set = {}}]": "unknown key 'data'; that is a table",
    "compare.published=[{when = {label = 'fedavgx'}, accuracy = 0.8, source = 'x'}]": (
        "compare.published: unknown method 'fedavgx'; did you mean 'fedavg'"
    ),
    "compare.published=[{when = {data = 'x'}, accuracy = 0.8, source = 'x'}]": (
        "unknown key 'data'; that is a table"
    ),
    "compare.variants=3": "compare.variants: got 3",
    "compare.variants={a = 3}": "compare.variants.a: got 3",
    'compare.variants={"a\\u001b" = {}}': "'a\\x1b', expected printable names",
    "compare.sweep=3": "compare.sweep: got 3",
    "compare.sweep=[1]": "compare.sweep: got [1]",
    "compare.sweep={'prune.density' = 0.1}": "compare.sweep.prune.density: got 0.1",
    "compare.sweep={'prune.density' = [0.1, 0.10]}": "compare.sweep.prune.density: 0.1 stands",
    "compare.sweep={'prune.densty' = [0.1]}": "did you mean 'prune.density'",
    "compare.sweep={'density' = [0.1]}": "did you mean 'prune.density'",
    "compare.sweep={'prune.density' = ['x']}": "prune.density: got 'x'",
    "compare.adjust=3": "compare.adjust: got 3",
    "compare.adjust=[3]": "compare.adjust[0]: got 3",
    "compare.adjust=[{when = {}}]": "expected the tables when and set",
    "compare.adjust=[{when = 3, set = {}}]": "compare.adjust[0].when: got 3",
    "compare.adjust=[{when = {x = 3}, set = {}}]": "unknown key 'x'",
    "compare.adjust=[{when = {}, set = {'train.lrr' = 3}}]": "did you mean 'train.lr'",
    "compare.metods=['mpfl']": "did you mean 'compare.methods'",
}


@pytest.mark.parametrize("setting", WRONG_TABLES)
def test_a_wrong_comparison_is_refused_before_any_run(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["compare", "demo", *SETS, "--set", setting, "--out", str(out)]
    assert WRONG_TABLES[setting] in complaint(arguments, capsys)
    assert not out.exists()


TWICE = {
    "seeds": (["--seeds", "0,0"], "compare.seeds: 0"),
    "seed in a range": (["--seeds", "0-2,1"], "compare.seeds: 1"),
    "methods": (["--methods", "mpfl, mpfl"], "compare.methods: 'mpfl'"),
    "values": (["--sweep", "prune.density=0.1,0.10"], "compare.sweep.prune.density: 0.1"),
    "keys": (["--sweep", "train.lr=1", "--sweep", "train.lr=2"], "'train.lr' is given twice"),
}


@pytest.mark.parametrize("what", TWICE)
def test_what_is_there_twice_is_named(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, named = TWICE[what]
    assert named in complaint(["compare", "demo", *SETS, *options], capsys)


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ("{'a/b' = {method = 'mpfl'}, 'a-b' = {method = 'mpfl', 'train.lr' = 1}}", "'a-b' would"),
        ("{x = {method = 'mpfl'}, y = {method = 'mpfl', 'train.lr' = 0.2}}", "'x' and 'y' are the"),
    ],
)
def test_variants_that_share_a_folder_or_all_keys_are_refused(
    variants: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "a/b,a-b" if "a/b" in variants else "x,y"
    options = ["--set", f"compare.variants={variants}", "--methods", names]
    assert said in complaint(["compare", "demo", *SETS, *options], capsys)


def test_a_sweep_without_end_is_refused_with_its_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    thousand = ",".join(map(str, range(1, 1001)))
    swept = ("federation.rounds", "train.epochs", "train.batch_size")
    options = [text for key in swept for text in ("--sweep", f"{key}={thousand}")]
    arguments = ["compare", "demo", "--methods", "mpfl", "--seeds", "0", *options]
    assert "compare: 1,000,000,000 runs" in complaint(arguments, capsys)
    ranges = {"0-999999999": "at most 1000 seeds", "2-0": "the first seed before the last"}
    for seeds, said in ranges.items():
        line = complaint(["compare", "demo", "--seeds", seeds], capsys)
        assert f"--seeds: got {seeds}, expected {said}" in line


def test_an_unknown_wire_names_the_option_and_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = complaint(["compare", "demo", *SETS, "--wire", "flaot32"], capsys)
    assert "(--wire): unknown value codec 'flaot32'; did you mean 'float32'?" in line


def test_names_of_any_letters_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[/b]:smile:"
    variants = "{'[red]$x^' = {method = 'mpfl', 'wire.up' = 'step(0.1,0.6)'}}"
    options = ["--set", f"compare.variants={variants}", "--methods", "[red]$x^, fedavg"]
    options += ["--sweep", "wire.down='step(0.1, 0.6)',int8", "--seeds", "0"]
    assert invoke(["compare", "demo", *SETS, *options, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "[red]$x^" in said
    assert "step(0.1, 0.6)" in said
    assert f"report: {out}/report.html" in said


# ----------------------------------------------------------------------------- configurations

FILES = {
    "nothing": (b"", "is empty"),
    "UTF-16": ("seed = 1\n".encode("utf-16"), "not a text in UTF-8"),
    "binary": (bytes(range(256)), "not a text in UTF-8"),
    "zeros": (bytes(100), "not valid TOML"),
    "no TOML": (b"seed: 1\n", "not valid TOML"),
    "tables without end": (b"x = " + b"[" * 100_000, "nested too deeply"),
    "many digits": (b"seed = " + b"9" * 10_000, "not valid TOML"),
    "four hundred digits": (b"train.lr = " + b"9" * 400, "train.lr: got 9"),
    "a large number": (b"train.batch_size = 1" + b"0" * 30, "train.batch_size: got 1000"),
    "a large rate": (b"train.weight_decay = 1e300", "train.weight_decay: got 1e+300"),
    "infinite": (b"train.lr = inf", "train.lr: got inf"),
    "wrong type": (b"train.precision = 3", "train.precision: got 3"),
    "too many rounds": (b"prune.rounds = 1" + b"0" * 17, "prune.rounds: got 1000"),
    "a leaf": (b"density = 0.1", "unknown key 'density'; did you mean 'prune.density'?"),
    "a leaf elsewhere": (b"prune.lr = 0.1", "'prune.lr'; did you mean 'train.lr'?"),
    "a date": (b"seed = 2020-01-01", "seed: got datetime.date"),
    "itself": (b"extends = 'c.toml'", "extends itself"),
    "another preset": (b"extends = 'dem'", "did you mean 'demo'"),
    "no name": (b"extends = 3", "extends: got 3"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_configuration_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, said = FILES[kind]
    (tmp_path / "c.toml").write_bytes(content)
    assert said in complaint(["run", str(tmp_path / "c.toml")], capsys)


def test_no_file_and_a_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "none.toml")
    line = complaint(["run", path], capsys)
    assert line == f"mpfl: cannot read '{path}': No such file or directory\n"
    assert "directory" in complaint(["run", f"{tmp_path}/"], capsys)
    assert "did you mean 'demo'" in complaint(["run", "dmeo"], capsys)


@pytest.mark.parametrize("name", ["run", "compare", "tune"])
def test_an_unknown_key_in_a_file_names_the_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("extends = 'demo'\ntrain.lrr = 0.3\ncompare.seeds = [0]\n")
    assert complaint([name, str(file)], capsys).startswith(f"mpfl: {file}: unknown key 'train.lrr'")
    line = complaint([name, "demo", "--set", "train.lrr=1"], capsys)
    assert line.startswith("mpfl: unknown key 'train.lrr'")


def test_resume_is_offered_only_where_there_is_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("precious")
    arguments = ["run", "demo", *SETS, "--out", str(tmp_path)]
    assert complaint(arguments, capsys).endswith("not empty; choose another folder\n")
    (tmp_path / "config.toml").write_text("")
    assert complaint(arguments, capsys).endswith("or use mpfl resume\n")


def test_ray_is_looked_for_before_anything_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "demo", *SETS, "--engine", "ray", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "make setup EXTRAS=dev,ray, or pip install 'mpfl[ray]'" in complaint(arguments, capsys)
    monkeypatch.undo()
    find = importlib.util.find_spec
    there = ModuleSpec("ray", None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: there if name == "ray" else find(name)
    )

    def start(*_: object, **__: object) -> None:
        assert "starting Ray" in capsys.readouterr().err
        raise RunError("it was started")

    monkeypatch.setattr("benchmarks.cli.run.ENGINES", {"ray": start})
    assert invoke(arguments) == 1
    assert "it was started" in capsys.readouterr().err


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_byte_order_marks_and_any_line_ends_are_read(
    mark: bytes, end: bytes, tmp_path: Path
) -> None:
    lines = [b"extends = 'demo'", b"train.lr = 0.3"]
    lines += [f"{key} = {value}".encode() for key, value in SMALL.items()]
    (tmp_path / "c.toml").write_bytes(mark + end.join(lines))
    out = tmp_path / "out"
    assert invoke(["run", str(tmp_path / "c.toml"), "--out", str(out), "--quiet"]) == 0
    text = (out / "config.toml").read_text()
    assert "lr = 0.3" in text
    assert 'ranking = "erk"' in text


# ---------------------------------------------------------------------------------- terminal


def test_help_explains_every_argument_whatever_click_does() -> None:
    def arguments(found: click.Command) -> list[click.Argument]:
        inner = getattr(found, "commands", {}).values()
        own = [part for part in found.params if isinstance(part, click.Argument)]
        return own + [part for parts in map(arguments, inner) for part in parts]

    for name in COMMANDS:
        assert all(getattr(part, "help", None) for part in arguments(command(name))), name


def test_the_line_of_each_command_is_its_own() -> None:
    for name, text in COMMANDS.items():
        assert (command(name).help or "").partition("\n\n")[0].replace("\n", " ") == text


def test_help_is_shown_without_the_heavy_packages(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom benchmarks.cli.main import invoke\nassert invoke(['--help']) == 0\n"
        "print(sorted({'torch', 'flwr', 'matplotlib', 'torchvision', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == b"[]"


def test_the_version_and_completion_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mpfl 0.")
    script = "import sys; sys.argv[0] = 'mpfl'; from benchmarks.cli.main import main; main()"
    asked = {"_MPFL_COMPLETE": "complete_bash", "COMP_WORDS": "mpfl re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **asked},
        capture_output=True,
        check=False,
    )
    assert done.stdout.split() == [b"resume", b"report", b"retrain"]


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONWARNINGS": "error"}, {"LC_ALL": "C", "TERM": "dumb"}],
)
def test_a_comparison_ends_well_in_every_environment(
    environment: dict[str, str], tmp_path: Path
) -> None:
    options = ["--methods", "mpfl,centralized", "--seeds", "0", "--out", "out"]
    done = program("compare", "demo", *SETS, *options, folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr.decode()
    assert all(line.startswith(b"without effect") for line in done.stderr.splitlines())


def test_closed_and_broken_streams_lose_nothing(tmp_path: Path) -> None:
    run = f"{sys.executable} -m benchmarks.cli.main"
    script = f"{run} run demo {' '.join(SETS)} --out a >&- 2>&- <&- && {run} list keys | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"keys:\n", b"")
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["rounds"] == 1
    assert (tmp_path / "a" / "ledger.csv").read_text().startswith("round,")


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_keeps_count_and_time(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(width=width, file=io.StringIO(), force_terminal=True)
    bars: list[Progress] = []

    def bar(*columns: object, **options: object) -> Progress:
        made = Progress(*columns, **{**options, "console": screen})  # type: ignore[arg-type]
        bars.append(made)
        return made

    monkeypatch.setattr(console, "Progress", bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    reporter = Reporter(quiet=False, as_json=False)
    with reporter.rounds(15, "mpfl on a data set with quite a long name"):
        now = "train   accuracy 0.8819  density 0.100  1.23 MB, and what else there is to say"
        bars[0].update(bars[0].tasks[0].id, completed=7, now=now)
        (parts,) = screen.render_lines(bars[0].get_renderable())
    line = "".join(part.text for part in parts)
    assert "7/15" in line
    assert "0:00:00" in line
    assert "━" * 8 in line
    assert "train" in line


def test_an_early_end_of_a_file_is_no_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*_: object) -> None:
        raise EOFError("half a file")

    monkeypatch.setattr("benchmarks.cli.listing.list_parts", ends)
    assert invoke(["list", "rules"]) == 1
    said = capsys.readouterr().err
    assert "half a file" in said
    assert "interrupted" not in said


def test_swept_values_are_whole_in_narrow_and_endless_terminals() -> None:
    sweep = {"data.partition": "dirichlet(0.3)", "wire.up": "step(0.10, 0.6)"}
    rows = comparison_table(
        [run_of([(10, 0.5), (20, 0.9)], sweep={**sweep, "a.b": n}) for n in (1, 2)]
    )
    for width in (80, 1000):
        screen = Console(width=width, file=io.StringIO(), markup=False)
        screen.print(table_text(rows))
        text = screen.file.getvalue()  # type: ignore[attr-defined]
        assert "…" not in text
        words = "".join(line.partition("  ")[0].strip() for line in text.splitlines())
        assert "dirichlet(0.3)" in (words if width == 80 else text)


def test_a_label_is_no_formula_in_a_spreadsheet() -> None:
    rows = comparison_table([run_of([(10, 0.5)], label="=cmd()")], "fedavg")
    assert "\n'=cmd()," in table_csv(rows)


# -------------------------------------------------------------------------------------- keys


def test_the_page_of_all_keys_is_that_of_the_code() -> None:
    page = keys.PAGE.read_text("utf-8")
    assert keys.with_tables(page) == page, "python -m benchmarks.keys writes it anew"
    assert all(f"| `{key.name.rpartition('.')[2]}` |" in page for key in keys.all_keys())


def test_every_key_is_listed_with_type_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["list", "keys", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["keys"]
    assert "0 < density <= 1; default 0.1" in listed["prune.density"]
    assert {"seed", "train.lr_decay", "faults.stress_kind", "compare.sweep"} <= set(listed)
    assert all("; default " in line or ", default " in line for line in listed.values())
