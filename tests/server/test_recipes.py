"""Every recipe, and every method whose messages build on shared draws: one result, however run."""

import pytest

from benchmarks.running.experiment import resume, run
from mpfl.recipes import recipes
from tests.federation import tiny
from tests.runs import digests


@pytest.mark.parametrize("name", [*recipes(), "klms", "bicompfl"])
def test_workers_and_an_interruption_leave_the_result_as_it_is(name, tmp_path):
    chosen = tiny(
        method=name, federation__rounds=3, federation__clients_per_round=3, train__lr=0.02
    )
    wanted = digests(run(chosen, tmp_path / "here", workers=0))
    assert digests(run(chosen, tmp_path / "workers", workers=2)) == wanted

    def stop(record):
        if record["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(chosen, tmp_path / "cut", on_round=stop)
    assert digests(resume(tmp_path / "cut")) == wanted
    ledger = (tmp_path / "here" / "ledger.csv").read_bytes()
    assert (tmp_path / "cut" / "ledger.csv").read_bytes() == ledger
