"""Classes by how far rows and columns have moved: what they say, and that both ends agree."""

import numpy as np

from mpfl.wire import ValueContext, encode_values
from mpfl.wire.values.contexts import CLASSES, movement_classes
from tests.federation import Federation, tiny

SHAPES = ((200, 100), (200,), (20, 10, 3, 3))
COUNT = 20_000 + 200 + 1800
EVERYTHING = np.ones(COUNT, np.bool_)


def moves(rng):
    """Differences whose size belongs to rows and columns, the same ones every time."""
    shape = np.random.default_rng(9)
    scale = np.exp(shape.normal(size=200))[:, None] * np.exp(shape.normal(size=100))
    parts = [rng.normal(size=(200, 100)) * scale, rng.normal(size=200), rng.normal(size=1800)]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def test_a_class_is_the_octave_of_row_times_column_energy():
    moved = moves(np.random.default_rng(0))
    energy = np.square(moved[:20_000].astype(np.float64)).reshape(200, 100)
    mean = energy.mean()
    expected = energy.mean(axis=1)[:, None] * energy.mean(axis=0) / mean + energy / 4
    wanted = np.clip(np.floor(np.log2(expected / mean)) + 9, 0, CLASSES - 1).ravel()
    found = movement_classes(moved, EVERYTHING, SHAPES)
    assert found.dtype == np.uint8
    assert np.mean(found[:20_000] == wanted) > 0.999  # edges are counted in whole units
    assert not found[20_000:20_200].any()
    assert found[20_200:].any()


def test_they_save_a_good_part_of_the_bytes_where_rows_and_columns_differ():
    rng = np.random.default_rng(1)
    classes = movement_classes(moves(rng), EVERYTHING, SHAPES)
    values = moves(rng)
    segments = (20_000, 200, 1800)
    plain = encode_values(values, "step(2, 0.6)", segments)
    told = encode_values(values, "step(2, 0.6)", segments, context=ValueContext(classes=classes))
    assert len(told) < 0.75 * len(plain)


def test_what_does_not_travel_has_no_say():
    moved = moves(np.random.default_rng(0))
    keep = np.random.default_rng(1).random(COUNT) < 0.3
    found = movement_classes(moved, keep, SHAPES)
    other = np.where(keep, moved, 1e6).astype(np.float32)
    np.testing.assert_array_equal(found[keep], movement_classes(other, keep, SHAPES)[keep])
    # a thinner mask leaves fewer values to a row, not a row of less energy
    assert abs(found[:20_000][keep[:20_000]].mean()
               - movement_classes(moved, EVERYTHING, SHAPES)[:20_000].mean()) < 0.5  # fmt: skip


def test_nothing_moved_is_one_class_and_the_unit_does_not_matter():
    assert not movement_classes(np.zeros(COUNT, np.float32), EVERYTHING, SHAPES).any()
    moved = moves(np.random.default_rng(0))
    for factor in (2.0**-60, 2.0**40):
        scaled = (moved * np.float32(factor)).astype(np.float32)
        np.testing.assert_array_equal(
            movement_classes(scaled, EVERYTHING, SHAPES),
            movement_classes(moved, EVERYTHING, SHAPES),
        )


def test_classes_are_made_once_for_all_replies_of_a_round(monkeypatch):
    calls = []

    def counted(moved, keep, shapes):
        calls.append(keep.size)
        return movement_classes(moved, keep, shapes)

    monkeypatch.setattr("mpfl.wire.values.channel.movement_classes", counted)
    game = Federation(tiny(method="dense_step", wire__value_classes=True, federation__rounds=4))
    game.play(2)
    calls.clear()
    game.play(2)
    assert len(game.replies) == 4
    assert len(calls) == 2
