"""The ledger adds up, and every row is the length of what was really serialized."""

from collections import Counter

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.app import app as client_app
from mpfl.config import to_toml
from mpfl.wire.frame import Kind, Section, decode_frame
from mpfl.world import world_from_toml
from server.app import run_session
from server.runfolder import RunFolder
from server.transport.flower import address, deserialize, serialize
from server.transport.grid import LocalGrid
from tests.runs import ledger, records, small

KINDS = ["mask", "values", "scores", "metrics", "config", "framing"]


class CountingGrid(LocalGrid):
    """Serializes every message once more, independently, and keeps sizes and frames."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def post(self, node, blob, group):
        message = Message(RecordDict({"m": ConfigRecord({"m": blob})}), node, "train")
        message.metadata.group_id = group
        address(message, "0" * 64, 1 << 62, 1)
        self.seen.append(("downlink", len(serialize(message)), blob))
        return super().post(node, blob, group)

    def collect(self):
        replies = super().collect()
        for message in map(deserialize, replies):
            self.seen.append(("uplink", len(serialize(message)), message.content["m"]["m"]))
        return replies


@pytest.fixture(scope="module", params=["mpfl", "fedavg"])
def counted(request, tmp_path_factory):
    experiment = small(method=request.param)
    out = tmp_path_factory.mktemp("run") / request.param
    text = to_toml(experiment)
    world = world_from_toml(text)
    grid = CountingGrid(client_app, 4, {"experiment": text}, workers=0)
    with grid, RunFolder.create(out, experiment) as folder:
        summary = run_session(world, grid, folder)
    return experiment, world, out, summary, grid.seen


def test_each_row_is_the_length_of_a_serialized_message(counted):
    _, _, out, _, seen = counted
    rows = Counter((row["direction"], int(row["message_bytes"])) for row in ledger(out))
    assert rows == Counter((direction, size) for direction, size, _ in seen)
    assert sum(rows.values()) == 2 * 4 * 4  # both ways, four clients, four rounds


def test_kinds_add_up_to_the_message(counted):
    for row in ledger(counted[2]):
        assert sum(int(row[f"{kind}_bytes"]) for kind in KINDS) == int(row["message_bytes"])
        assert int(row["framing_bytes"]) > 0


def test_rows_records_and_summary_have_the_same_totals(counted):
    _, _, out, summary, _ = counted
    for direction in ("uplink", "downlink"):
        total = sum(int(r["message_bytes"]) for r in ledger(out) if r["direction"] == direction)
        assert total == summary[f"{direction}_bytes"] == records(out)[-1][f"{direction}_bytes"]
    assert summary["total_bytes"] == summary["uplink_bytes"] + summary["downlink_bytes"]
    running = 0
    for record in records(out):
        running += sum(
            int(r["message_bytes"]) for r in ledger(out) if int(r["round"]) == record["round"]
        )
        assert record["total_bytes"] == running


@pytest.mark.parametrize("counted", ["mpfl"], indirect=True)
def test_ballots_are_small_and_phase_one_moves_no_weight(counted):
    _, world, out, _, seen = counted
    frames = [(direction, blob, decode_frame(blob)) for direction, _, blob in seen]
    ballots = [(blob, frame) for _, blob, frame in frames if frame.kind is Kind.BALLOT]
    assert len(ballots) == 2 * 4
    surviving = {1: world.layout.total, 2: records(out)[0]["density"] * world.layout.total}
    for blob, frame in ballots:
        assert len(blob) <= surviving[frame.round] / 8 + 64
    phase_one = [frame for _, _, frame in frames if frame.round <= 2]
    assert phase_one
    assert not any(Section.VALUES in frame.sections for frame in phase_one)


def test_the_first_downlink_carries_neither_mask_nor_weights(counted):
    first = [decode_frame(blob) for way, _, blob in counted[4] if way == "downlink"][:4]
    assert {frame.round for frame in first} == {1}
    assert all(set(frame.sections) <= {Section.CONFIG} for frame in first)


@pytest.mark.parametrize("counted", ["mpfl"], indirect=True)
def test_ballots_carry_the_bits_that_the_formula_promises(counted):
    _, world, out, _, _ = counted
    rows = [r for r in ledger(out) if (r["direction"], r["phase"]) == ("uplink", "mask")]
    assert len(rows) == 2 * 4
    for row in rows:
        assert float(row["formula_bytes"]) == pytest.approx(world.layout.total / 8, abs=0.1)
        assert 0 < float(row["bound_bytes"]) <= int(row["mask_bytes"])
