"""Keys of 0.1.0 are read wherever keys stand; recipes stand below what stands beside their name."""

import pytest

from mpfl import from_mapping
from mpfl.presets import changed, renamed


@pytest.mark.parametrize(
    "table",
    [
        {"wire": {"uplink_values": "int8"}},
        {"compare": {"variants": {"mine": {"wire.uplink_values": "int8"}}}},
        {"compare": {"sweep": {"wire.uplink_values": ["int8", "int4"]}}},
        {"wire.uplink_values": "int8"},
    ],
)
def test_an_old_name_is_todays_wherever_it_stands(table):
    found, notes = renamed(table)
    assert "uplink_values" not in repr(found)
    assert "up" in repr(found)
    assert notes == ["wire.uplink_values is wire.up now"]
    assert renamed(found) == (found, [])


def test_what_is_gone_is_left_out_and_named():
    found, notes = renamed({"comparator": {"topk_fraction": 0.05, "sign_step": 0.1}})
    assert found == {"comparator": {"sign_step": 0.1}}
    assert notes == ["comparator.topk_fraction is gone; wire.up says it now"]


def test_an_old_file_means_what_it_meant():
    experiment = from_mapping({"wire": {"uplink_values": "int4", "downlink_values": "float16"}})
    assert (experiment.wire.up, experiment.wire.down) == ("int4", "float16")


def test_what_is_set_on_top_of_an_old_file_wins():
    table = changed({"wire": {"uplink_values": "int4"}}, {"wire.up": "int8"})
    assert from_mapping(table).wire.up == "int8"
    table = changed({"wire": {"up": "int4"}}, {"wire.uplink_values": "int8"})
    assert from_mapping(table).wire.up == "int8"


def test_a_file_may_set_any_key_of_the_recipe_that_it_names():
    table = changed({"method": "topk", "wire": {"uplink_values": "sparse(0.3)"}}, {})
    assert table == {"method": "fedavg", "wire": {"up": "sparse(0.3)", "down": "sparse"}}


def test_a_recipe_that_is_set_on_top_sets_the_wire_of_a_file_aside():
    table = changed({"wire": {"up": "step(1.0)"}}, {"method": "topk", "wire.down": "float16"})
    assert table == {"method": "fedavg", "wire": {"up": "sparse(0.05)", "down": "float16"}}


def test_a_table_sets_its_own_keys_alone() -> None:
    table = {"prune": {"density": 0.5, "score": "taylor"}}
    now = changed(table, {"prune": {"density": 0.2, "rounds": 1}, "prune.rounds": 3})
    assert now == {"prune": {"density": 0.2, "score": "taylor", "rounds": 3}}
