"""Crops and mirror images: against a pixel at a time, and the same for any way of running."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.running.experiment import resume, run
from mpfl.config import DataConfig
from mpfl.data import load_data
from mpfl.data.augment import BORDER, augmented, drawn
from mpfl.data.loading import normalisation
from mpfl.data.samples import Samples
from mpfl.errors import InputError
from mpfl.seeding import torch_generator
from mpfl.training.local import batches, batches_of
from tests.runs import digests, run_small, small

MOVES = torch.tensor([[4, 4, 0], [0, 8, 0], [8, 0, 1], [3, 5, 1], [4, 4, 1]])


def images(count: int = 5) -> Samples:
    pixels = torch.randint(0, 256, (count, 2, 6, 5), generator=torch_generator(0, "pixels"))
    scale = normalisation((0.3, 0.5), (0.2, 0.4))
    return Samples(pixels.byte(), torch.arange(count), **scale, augment="crop_flip")


def by_pixel(samples: Samples, moves: torch.Tensor) -> torch.Tensor:
    """What a network sees of bytes that are moved and mirrored before they are normalised."""
    out = torch.zeros(samples.inputs.shape, dtype=torch.uint8)
    count, channels, height, width = out.shape
    for n in range(count):
        top, left, mirrored = moves[n].tolist()
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    column = width - 1 - x if mirrored else x
                    row, column = y + top - BORDER, column + left - BORDER
                    if 0 <= row < height and 0 <= column < width:
                        out[n, c, y, x] = samples.inputs[n, c, row, column]
    return replace(samples, inputs=out).batch(torch.arange(count))[0]


@pytest.mark.parametrize("prepared", [False, True])
def test_images_move_within_a_black_border_and_are_mirrored(prepared: bool) -> None:
    samples = images()
    ready = samples.prepared() if prepared else samples
    inputs, _ = ready.batch(torch.arange(5))
    found = augmented(ready, inputs, MOVES)
    assert torch.equal(found, by_pixel(samples, MOVES))
    assert torch.equal(found[0], inputs[0])
    assert torch.equal(found[4], inputs[4].flip(2))


def test_every_move_is_as_likely_as_any_other() -> None:
    samples = images(1).subset(torch.zeros(40_000, dtype=torch.int64))
    moves = drawn(samples, torch_generator(0, "moves"))
    assert moves is not None
    for column, most in zip(moves.T, (8, 8, 1), strict=True):
        shares = torch.bincount(column, minlength=most + 1) / len(column)
        assert (shares - 1 / (most + 1)).abs().max() < 0.01
    cropped = drawn(replace(samples, augment="crop"), torch_generator(0, "moves"))
    assert cropped is not None
    assert not cropped[:, 2].any()
    assert torch.equal(cropped[:, :2], moves[:, :2])
    assert drawn(replace(samples, augment=""), torch_generator(0, "moves")) is None


def test_epochs_change_the_same_batches_anew_every_time() -> None:
    samples = images(1_100)
    order = torch_generator(3, "order")
    indices = [index for _ in range(2) for index in batches(1_100, 8, order)]
    plain = list(batches_of(replace(samples, augment=""), 8, 2, torch_generator(3, "order")))
    changed = list(batches_of(samples, 8, 2, torch_generator(3, "order")))
    again = list(batches_of(samples, 8, 2, torch_generator(3, "order")))
    seen = [torch.zeros(1_100, 2, 6, 5) for _ in range(2)]
    for n, index in enumerate(indices):
        assert torch.equal(plain[n][0], samples.batch(index)[0])
        assert torch.equal(changed[n][1], plain[n][1])
        assert torch.equal(changed[n][0], again[n][0])
        seen[n // (len(indices) // 2)][index] = changed[n][0]
    same = (seen[0] == seen[1]).flatten(1).all(1).float().mean()
    assert same < 0.05  # 1 of 162 moves


AUGMENTED = {"data__augment": "crop_flip", "federation__rounds": 4}


def test_a_run_is_the_same_for_any_workers_and_after_a_resume(tmp_path: Path) -> None:
    alone = run_small(tmp_path / "alone", **AUGMENTED)
    workers = run_small(tmp_path / "workers", **AUGMENTED, engine__workers=2)

    def stop(record: dict[str, object]) -> None:
        if record["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(**AUGMENTED), tmp_path / "cut", on_round=stop)
    resumed = resume(tmp_path / "cut")
    assert resumed is not None
    assert digests(alone) == digests(workers) == digests(resumed)
    plain = run_small(tmp_path / "plain", federation__rounds=4)
    assert digests(plain) != digests(alone)


@pytest.mark.parametrize("method", ["centralized", "fedpm"])
def test_training_without_fedavg_sees_changed_images_as_well(tmp_path: Path, method: str) -> None:
    found = [
        run_small(tmp_path / text, method=method, data__augment=text, federation__rounds=2)
        for text in ("crop", "crop_flip")
    ]
    assert found[0]["model_digest"] != found[1]["model_digest"]


def test_only_training_images_are_changed() -> None:
    data = load_data(DataConfig(augment="crop"), 0)
    assert (data.train.augment, data.test.augment) == ("crop", "")


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.augment: 'crop' needs images"):
        load_data(DataConfig(name="pydoc", augment="crop"), 0)
    with pytest.raises(InputError, match=r"data\.augment: unknown value 'flip'"):
        DataConfig(augment="flip")


def test_pixels_may_be_shares_of_white() -> None:
    index = torch.arange(50)
    usual, plain = (load_data(DataConfig(standardise=s), 0) for s in (True, False))
    for part in ("train", "test"):
        inputs, _ = getattr(plain, part).batch(index)
        assert (float(inputs.min()), float(inputs.max())) == (0.0, 1.0)
        raw = getattr(usual, part).inputs[index]
        torch.testing.assert_close(inputs, raw / 16)
    with pytest.raises(InputError, match=r"data\.standardise: pydoc has no pixels"):
        load_data(DataConfig(name="pydoc", standardise=False), 0)
