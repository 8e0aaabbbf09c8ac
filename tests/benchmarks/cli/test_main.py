"""The command line: one clear line and status 2 for bad input, nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from benchmarks.cli.main import invoke
from tests.runs import SMALL, run_small


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(SMALL))
    return str(path)


BAD = {
    "unknown key": (["--set", "prune.densty=0.2"], "prune.density"),
    "unknown method": (["--set", "method=fedavgg"], "fedavg"),
    "unknown model": (["--set", "model.name=lenet301"], "lenet300"),
    "unknown data set": (["--set", "data.name=mnst"], "mnist"),
    "unknown score": (["--set", "prune.score=magnitud"], "magnitude"),
    "unknown rule": (["--set", "prune.vote=majorty"], "majority"),
    "unknown ranking": (["--set", "prune.ranking=layr"], "layer"),
    "unknown schedule": (["--set", "prune.schedule=cubc"], "cubic"),
    "unknown partition": (["--set", "data.partition=idd"], "iid"),
    "unknown codec": (["--set", "wire.up=float31"], "float32"),
    "wrong type": (["--set", "prune.density=much"], "prune.density"),
    "zero density": (["--set", "prune.density=0"], "prune.density"),
    "density above one": (["--set", "prune.density=1.5"], "prune.density"),
    "too many clients": (["--set", "data.clients=100000"], "data.clients"),
    "missing data": (["--set", "data.name=mnist", "--data-dir", "/nonexistent"], "/nonexistent"),
    "no assignment": (["--set", "prune.density"], "key=value"),
    "unknown option": (["--nonsense"], "--nonsense"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(config, tmp_path, capsys, case):
    options, word = BAD[case]
    status = invoke(["run", config, "--out", str(tmp_path / "out"), *options])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1
    assert word in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_preset_names_the_nearest(capsys):
    assert invoke(["run", "demmo"]) == 2
    assert "'demo'" in capsys.readouterr().err


def test_a_folder_with_content_is_refused_and_untouched(config, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert invoke(["run", config, "--out", str(out)]) == 2
    assert str(out) in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["precious.txt"]


def test_an_unwritable_folder_is_refused(config, capsys):
    assert invoke(["run", config, "--out", "/proc/nothing/here"]) == 2
    assert "/proc/nothing" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncate", "flip", "magic"])
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path, capsys, damage):
    folder = tmp_path / "run"
    run_small(folder, federation__rounds=2)
    (folder / "summary.json").unlink()
    checkpoint = folder / "checkpoint" / "latest"
    blob = bytearray(checkpoint.read_bytes())
    if damage == "truncate":
        del blob[len(blob) // 2 :]
    else:
        blob[{"flip": -5, "magic": 2}[damage]] ^= 1
    checkpoint.write_bytes(blob)
    rows = (folder / "ledger.csv").read_bytes()
    assert invoke(["resume", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "checkpoint" in error
    assert error.count("\n") == 1
    assert (folder / "ledger.csv").read_bytes() == rows
    assert checkpoint.read_bytes() == blob


def test_resume_of_something_else_is_refused(tmp_path, capsys):
    assert invoke(["resume", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_json_output_is_the_summary(config, tmp_path, capsys):
    out = tmp_path / "out"
    assert invoke(["run", config, "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    summary = json.loads((out / "summary.json").read_text())
    where = {"folder": str(out), "report": str(out / "report.html")}
    assert printed == {**summary, **where}
    assert invoke(["resume", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == printed


def test_quiet_prints_the_result_alone(config, tmp_path, capsys):
    assert invoke(["run", config, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (line,) = captured.out.splitlines()
    assert line.startswith("test accuracy")


def test_quiet_comparisons_print_their_table_alone(config, tmp_path, capsys):
    asked = [config, "--methods", "fedavg,mpfl", "--sweep", "prune.density=0.1,0.2"]
    assert invoke(["compare", *asked, "--out", str(tmp_path / "c"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = [line for line in captured.out.splitlines() if line.startswith(("fedavg", "mpfl"))]
    assert len(rows) == 4
    assert captured.out.index("density") < captured.out.index("mpfl")
    assert "report" not in captured.out
    assert invoke(["report", str(tmp_path / "c"), "--quiet"]) == 0
    assert capsys.readouterr().out == captured.out


def test_json_of_a_comparison_says_where_everything_is(config, tmp_path, capsys):
    out = tmp_path / "c"
    asked = [config, "--methods", "fedavg", "--sweep", "prune.density=0.1,0.2", "--out", str(out)]
    assert invoke(["compare", *asked, "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert printed["folder"] == str(out)
    assert printed["failed"] == {}
    assert [run["sweep"] for run in printed["runs"]] == [{"prune.density": d} for d in (0.1, 0.2)]
    for run in printed["runs"]:
        assert (Path(run["folder"]) / "summary.json").is_file()
    assert invoke(["report", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == {key: printed[key] for key in ("report", "baseline", "rows")}


@pytest.mark.parametrize("kind", ["methods", "models", "datasets", "scores", "rules", "presets"])
def test_list_names_every_part_with_a_line(kind, capsys):
    assert invoke(["list", kind, "--json"]) == 0
    (entries,) = json.loads(capsys.readouterr().out).values()
    assert len(entries) >= 2
    assert all(text.strip() for text in entries.values())


def test_the_module_runs_as_a_program():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.cli.main", "list", "rules"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "majority" in result.stdout
