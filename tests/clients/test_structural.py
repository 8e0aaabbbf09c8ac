"""Structural masks: clients train and exchange the network without the dropped units."""

import numpy as np
import pytest

import mpfl.training.masked
import mpfl.training.together
from benchmarks.running.experiment import resume, run
from mpfl.wire.frame import Section
from tests.federation import Federation, tiny
from tests.runs import digests

QUICK = {
    "data__train_samples": 64,
    "data__clients": 2,
    "data__partition": "iid",
    "model__name": "resnet20",
    "train__lr": 0.02,
    "prune__granularity": "filter",
    "prune__density": 0.4,
    "prune__rounds": 2,
    "engine__workers": 0,
}


@pytest.fixture
def sizes(monkeypatch):
    """Parameters of every network that is trained."""
    seen = []
    train = mpfl.training.local.train

    def watched(model, *arguments, **options):
        seen.append(model.values.numel())
        return train(model, *arguments, **options)

    monkeypatch.setattr(mpfl.training.together, "train", watched)
    return seen


@pytest.mark.parametrize("score", ["magnitude", "movement"])
def test_clients_train_the_small_network_and_send_its_numbers(sizes, score):
    federation = Federation(tiny(**QUICK, prune__score=score))
    whole = federation.world.w0.size
    federation.play()
    assert sizes == [whole] * 2, "the first mask is full"
    held = federation.world.structure.parameter_mask(federation.method.mask()).sum()
    federation.play()
    assert sizes[2:] == [held] * 2
    federation.play()
    survivors = federation.survivors()
    parameters = survivors[:whole].sum()
    assert sizes[4:] == [parameters] * 2
    assert parameters < held < whole
    federation.play()
    for frames in (federation.replies, federation.requests):
        for frame in frames.values():
            assert len(frame.sections[Section.VALUES]) == pytest.approx(4 * survivors.sum(), abs=8)
    for trained in federation.trained.values():
        assert (trained[:whole][~survivors[:whole]] == 0).all()
        b0 = federation.world.b0
        np.testing.assert_array_equal(trained[whole:][~survivors[whole:]], b0[~survivors[whole:]])


@pytest.mark.parametrize("method", ["mpfl", "lotteryfl"])
def test_the_same_result_for_any_workers_and_after_a_restart(tmp_path, method):
    overrides = {**QUICK, "method": method, "federation__rounds": 4, "model__name": "conv4"}
    overrides |= {"data__train_samples": 48, "data__clients": 3}
    runs = [run(tiny(**overrides), tmp_path / str(n), workers=n) for n in (0, 2)]
    assert runs[0]["density"] < 1
    assert digests(runs[0]) == digests(runs[1])

    def stop(record):
        if record["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny(**overrides), tmp_path / "cut", on_round=stop)
    assert digests(resume(tmp_path / "cut")) == digests(runs[0])
