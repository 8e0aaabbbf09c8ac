"""Faults: each is counted, none crashes a run, and a rejected reply changes nothing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clients.app
from benchmarks.cli.main import main
from benchmarks.running.experiment import resume, run
from clients.faults import flip
from mpfl.config import Experiment, to_toml
from mpfl.faults.replies import CLIENT_ERROR, FAULTS, fault_of
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section, decode_frame, encode_frame
from server.ledger import Ledger
from server.records import DOWNLINK, UPLINK
from server.round import Exchange, RunState
from server.transport.courier import Delivery
from tests.federation import Federation, tiny
from tests.runs import digests, ledger, records, run_in_vain

REASONS = {
    "drop_before": {"dropped before training"},
    "drop_after": {"dropped after training"},
    "straggle": {"after the deadline"},
    "corrupt": {"bad checksum", "bad magic", "bad version"},
    "truncate": {"bad checksum", "bad length"},
    "replay": {"bad round"},
    "wrong_round": {"bad round"},
    "not_finite": {"bad values", "bad metrics"},
}


def drawn(experiment: Experiment) -> Counter[tuple[int, str]]:
    """Return how often each fault must be met in each round; replays need something to replay."""
    found: Counter[tuple[int, str]] = Counter()
    answered = set()
    for number in range(1, experiment.federation.rounds + 1):
        for client in range(experiment.data.clients):
            fault = fault_of(experiment, number, client)
            if fault and not (fault == "replay" and client not in answered):
                found[number, fault] += 1
            if fault != "drop_before":
                answered.add(client)
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reply_that_always_fails_is_counted_and_changes_nothing(
    tmp_path: Path, fault: str
) -> None:
    experiment = tiny(**{f"faults__{fault}": 1.0}, federation__rounds=3)
    federation = Federation(experiment)
    before = federation.method.mask().digest()
    if fault == "replay":  # the first reply is honest
        federation.play()
        before = federation.method.mask().digest()
    phase = "train" if fault == "replay" else "mask"
    error = run_in_vain(experiment, tmp_path / "run")
    assert re.match(rf"none of the \d rounds? of phase '{phase}' counted; first cause: r", error)
    rows = records(tmp_path / "run")
    expected = drawn(experiment)
    for row in rows:
        assert sum(row["rejected"].values()) == expected[row["round"], fault]
        assert set(row["rejected"]) <= REASONS[fault]
        assert row["clients_replied"] == 4 - expected[row["round"], fault]
        assert row["counted"] == (row["clients_replied"] > 0)
    assert rows[-1]["clients_replied"] == 0
    assert federation.method.mask().digest() == before


def test_faults_of_all_kinds_are_counted_one_by_one(tmp_path: Path) -> None:
    experiment = tiny(
        **{f"faults__{name}": 0.08 for name in FAULTS},
        federation__rounds=12,
        prune__rounds=6,
        seed=6,
    )
    run(experiment, tmp_path / "run")
    expected = drawn(experiment)
    assert len({fault for _, fault in expected}) == len(FAULTS)
    for row in records(tmp_path / "run"):
        met = {fault: expected[row["round"], fault] for fault in FAULTS}
        got = Counter(row["rejected"])
        for fault in ("drop_before", "drop_after", "straggle"):
            assert sum(got[reason] for reason in REASONS[fault]) == met[fault]
        assert got["bad round"] == met["replay"] + met["wrong_round"]
        assert got["bad values"] + got["bad metrics"] == met["not_finite"]
        assert sum(got.values()) == sum(met.values())  # nobody is refused for a fault before


@pytest.mark.parametrize("fault", ["corrupt", "truncate", "wrong_round", "not_finite", "straggle"])
@pytest.mark.parametrize("recovery", ["rewind", "finetune"])
def test_a_spoiled_reply_is_as_good_as_none(
    tmp_path: Path, fault: str, recovery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(**{f"faults__{fault}": 0.4}, prune__recovery=recovery, federation__rounds=3)
    spoiled = run(experiment, tmp_path / "spoiled")
    monkeypatch.setattr(
        clients.app,
        "fault_of",
        lambda *arguments: "drop_after" if fault_of(*arguments) == fault else "",
    )
    lost = run(experiment, tmp_path / "lost")
    assert sum(sum(r["rejected"].values()) for r in records(tmp_path / "lost")) > 0
    for key in ("mask_digest", "model_digest"):
        assert spoiled[key] == lost[key]


@pytest.mark.parametrize("method", ["topk", "signsgd_mv", "fedpm", "ssfl", "prunefl", "lotteryfl"])
def test_no_fault_crashes_any_method(tmp_path: Path, method: str) -> None:
    experiment = tiny(
        **{f"faults__{name}": 0.1 for name in FAULTS}, method=method, federation__rounds=4
    )
    run(experiment, tmp_path / "run")
    rows = records(tmp_path / "run")
    assert len(rows) == 4
    assert all(row["clients_replied"] + sum(row["rejected"].values()) == row["clients_sampled"]
               for row in rows)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "uplink"), [("fedavg", "float32"), ("mpfl", "float16"), ("mpfl", "int8"),
                           ("ssfl", "int8")]
)  # fmt: skip
def test_values_that_are_not_finite_never_get_in(tmp_path: Path, method: str, uplink: str) -> None:
    experiment = tiny(
        method=method,
        faults__not_finite=1.0,
        wire__up=uplink,
        prune__recovery="finetune",
        federation__rounds=3,
    )
    run_in_vain(experiment, tmp_path / "run")
    last = records(tmp_path / "run")[-1]
    floats = uplink != "int8" or method == "ssfl"  # whose scores are float32
    expected = "bad values" if floats else "bad metrics"
    assert last["rejected"] == {expected: 4}
    assert np.isfinite(last["test_loss"])


def test_downlink_of_lost_replies_is_booked_and_uplink_is_not(tmp_path: Path) -> None:
    experiment = tiny(faults__drop_before=0.2, faults__drop_after=0.2, faults__straggle=0.2)
    run(experiment, tmp_path / "run")
    rows = Counter((int(r["round"]), r["direction"]) for r in ledger(tmp_path / "run"))
    lost = 0
    for record in records(tmp_path / "run"):
        missing = sum(record["rejected"].values())
        assert rows[record["round"], DOWNLINK] == 4
        assert rows[record["round"], UPLINK] == 4 - missing
        lost += missing
    assert lost > 2


def test_bytes_of_a_damaged_reply_are_booked(tmp_path: Path) -> None:
    run_in_vain(tiny(faults__corrupt=1.0, federation__rounds=1), tmp_path / "run")
    uplink = [row for row in ledger(tmp_path / "run") if row["direction"] == UPLINK]
    assert len(uplink) == 4
    assert all(int(r["framing_bytes"]) == int(r["message_bytes"]) > 6_000 for r in uplink)


def test_faults_do_not_depend_on_workers_or_restarts(tmp_path: Path) -> None:
    experiment = tiny(
        **{f"faults__{name}": 0.1 for name in FAULTS},
        faults__byzantine=0.25,
        faults__attack="random",
        federation__rounds=6,
        prune__rounds=4,
    )

    def stop(record: dict[str, object]) -> None:
        if record["round"] == 3:
            raise KeyboardInterrupt

    wanted = run(experiment, tmp_path / "one")
    assert digests(run(experiment, tmp_path / "two", workers=2)) == digests(wanted)
    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path / "cut", on_round=stop)
    again = resume(tmp_path / "cut")
    assert again is not None
    assert digests(again) == digests(wanted)
    one, cut = records(tmp_path / "one"), records(tmp_path / "cut")
    assert [r["rejected"] for r in one] == [r["rejected"] for r in cut]


def test_a_client_whose_reply_was_lost_understands_the_next_request(tmp_path: Path) -> None:
    experiment = tiny(faults__drop_after=0.5, prune__rounds=8, federation__rounds=8)
    run(experiment, tmp_path / "run")
    reasons = Counter[str]()
    for record in records(tmp_path / "run"):
        reasons.update(record["rejected"])
    assert set(reasons) == {"dropped after training"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_as_frequent_as_it_is_probable(fault: str) -> None:
    experiment = tiny(**{f"faults__{fault}": 0.3})
    met = [fault_of(experiment, number, client) for number in range(40) for client in range(40)]
    assert set(met) == {"", fault}
    assert met.count(fault) / len(met) == pytest.approx(0.3, abs=0.05)


def test_adding_a_fault_moves_no_other() -> None:
    one = tiny(faults__corrupt=0.3)
    both = tiny(faults__corrupt=0.3, faults__truncate=0.3)
    met = [number for number in range(30) if fault_of(one, number, 2) == "corrupt"]
    assert met
    assert {fault_of(both, number, 2) for number in met} == {"corrupt"}


@given(st.binary(max_size=60), st.integers(0, 300), st.data())
def test_any_flipped_bit_and_any_cut_is_noticed(
    body: bytes, number: int, data: st.DataObject
) -> None:
    blob = encode_frame(Frame(Kind.BALLOT, number, {Section.MASK: body, Section.METRICS: b"x"}))
    damaged = flip(blob, data.draw(st.integers(0, 8 * len(blob) - 1)))
    assert sum((a ^ b).bit_count() for a, b in zip(blob, damaged, strict=True)) == 1
    for bad in (damaged, blob[: data.draw(st.integers(0, len(blob) - 1))]):
        with pytest.raises(WireError):
            decode_frame(bad)


@pytest.mark.parametrize("overrides", [{}, {"prune__recovery": "finetune"}, {"method": "fedavg"}])
def test_a_round_with_too_few_replies_leaves_mask_and_model(
    tmp_path: Path, overrides: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(federation__min_replies=3, prune__rounds=4, **overrides)
    lost = {2: {0, 1}, 3: {2}}  # too many in round 2, in round 3 not
    monkeypatch.setattr(
        clients.app,
        "fault_of",
        lambda _, number, client: "drop_after" if client in lost.get(number, ()) else "",
    )
    run(experiment, tmp_path / "run")
    rows = records(tmp_path / "run")
    assert [row["counted"] for row in rows] == [True, False, True, True]
    assert [row["clients_replied"] for row in rows] == [4, 2, 3, 4]
    assert rows[1]["density"] == rows[0]["density"]
    assert (rows[1]["test_loss"], rows[1]["test_accuracy"]) == (
        rows[0]["test_loss"],
        rows[0]["test_accuracy"],
    )
    assert rows[2]["test_loss"] != rows[1]["test_loss"]


def test_a_rule_that_trims_all_that_came_does_not_end_the_run(tmp_path: Path) -> None:
    experiment = tiny(prune__vote="trimmed(2)", faults__drop_after=0.5, prune__rounds=8,
                      federation__rounds=8)  # fmt: skip
    run(experiment, tmp_path / "run")
    rows = records(tmp_path / "run")
    few = [row for row in rows if row["clients_replied"] <= 2]
    assert few
    assert [row for row in rows if not row["counted"]] == few
    density = 1.0
    for row in rows:
        assert (row["density"] < density) == row["counted"]
        density = row["density"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("faults.attack=invert", "did you mean 'inverted'"),
        ("faults.attack=layer(fc9)", "faults.attack: unknown layer 'fc9'"),
        ("faults.attack=layer", "takes one argument, as in layer(name)"),
        ("faults.attack=random(3)", "takes no argument"),
        ("faults.corrupt=1.5", "faults.corrupt: got 1.5"),
        ("faults.corupt=0.5", "did you mean 'faults.corrupt'"),
        ("federation.min_replies=5", "federation.min_replies: got 5, expected at most 4"),
        ("method=fedavg", "'fedavg' has no ballots"),
    ],
)
def test_nonsense_is_refused_with_status_2(
    tmp_path: Path, setting: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(to_toml(tiny(faults__byzantine=0.5)))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as caught:
        main(["run", str(config), "--out", str(out), "--set", setting])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 4, 1, 0, 2)])
def test_what_is_told_of_losses_does_not_depend_on_their_order(order: tuple[int, ...]) -> None:
    game = Federation(tiny(data__clients=5))
    game.method.begin_round(1, range(5))
    exchange = Exchange(RunState(game.method, Ledger(), round=1), "mask")
    list(exchange.requests(list(range(5))))
    reasons = ["after the deadline"] * 4 + [CLIENT_ERROR]
    for client in order:
        exchange.receive(Delivery(client, 0, None, 0, reasons[client], "lost\nfor good"))
    assert exchange.errors == ["client 4: lost", "client 0: lost", "client 1: lost"]
    assert exchange.rejected == {"after the deadline": 4, CLIENT_ERROR: 1}


def test_a_vote_that_does_not_count_costs_nobody_a_snapshot() -> None:
    game = Federation(tiny(prune__recovery="finetune", prune__rounds=4, federation__rounds=8,
                           wire__down="step(2.0)"))  # fmt: skip
    game.play(3)
    version, links = game.method.state.masks.version, list(game.method.state.model.links)
    game.play(lost=range(4))
    assert links
    assert (game.method.state.masks.version, game.method.state.model.links) == (version, links)
