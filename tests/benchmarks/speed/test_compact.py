"""The compaction benchmark times what it says, on networks small enough for a test."""

import pytest
import torch

from benchmarks.speed.compact import CASES, Case, compact_table
from mpfl.models import build_model


def test_the_table_counts_what_is_left_and_restores_the_threads():
    def build() -> torch.nn.Module:
        return build_model("lenet300", 10, (1, 8, 8), torch.Generator().manual_seed(1))

    threads = torch.get_num_threads()
    case = Case("small", build, (1, 8, 8), batch_size=8, target=1.0)
    (row,) = compact_table((case,), filter_sparsity=0.8, repeats=1, steps=1)
    assert torch.get_num_threads() == threads
    assert row["filter_sparsity"] == pytest.approx(0.8)
    assert row["dense_parameters"] == 64 * 300 + 300 + 300 * 100 + 100 + 1010
    assert row["compact_parameters"] == 64 * 60 + 60 + 60 * 20 + 20 + 210
    assert row["compact_macs"] == 64 * 60 + 60 * 20 + 200
    assert row["speedup"] == row["dense_seconds"] / row["compact_seconds"]


@pytest.mark.slow
def test_compacted_networks_reach_their_targets():
    for row in compact_table(CASES):
        assert row["speedup"] >= row["target"], row
