"""Size and speed of every mask codec beside general compressors, in one run."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bitarray import bitarray
from bitarray.util import sc_decode, sc_encode

from benchmarks.results.ballots import judge, read_ballots, recorded_rounds
from mpfl.ballot import cast_ballot
from mpfl.config import DataConfig, Experiment, ModelConfig
from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.seeding import numpy_rng, torch_generator
from mpfl.wire import MASK_CODECS, decode_mask, encode_mask, mask_bound_bits
from mpfl.wire.sections import mask_context
from mpfl.world import World, build_world, world_from_toml

REPEATS = 5


@dataclass(frozen=True)
class Contender:
    """One way from a mask to bytes and back.

    Attributes
    ----------
    name
        Column ``codec`` of the table.
    encode, decode
        The two directions; decoding gives something that equals what `expected` makes of a mask.
    expected
        What decoding must give, for the check of the round trip.
    """

    name: str
    encode: Callable[[Mask], bytes]
    decode: Callable[[bytes], Any]
    expected: Callable[[Mask], Any]


def codec_table(bits: int, fractions: Sequence[float]) -> list[dict[str, Any]]:
    """Measure every codec on Bernoulli masks, one thread.

    Parameters
    ----------
    bits
        Units of the mask, in one layer.
    fractions
        Shares of ones.

    Returns
    -------
    list of dict
        For each fraction and codec: ``fraction``, ``codec``, ``bytes``, ``bits_per_unit``,
        ``size_over_bound`` (the bound is n·H(k/n) of the drawn bits), ``encode_mbit_per_second``
        and ``decode_mbit_per_second`` (Mbit of mask a second of processor time, best of five), in a
        fixed order.

    Raises
    ------
    InputError
        If `bits` or a fraction is out of range.
    RuntimeError
        If a codec does not give back what it was given.
    """
    if bits < 8:
        raise InputError(f"bits: got {bits}, expected at least 8")
    rows = []
    for fraction in fractions:
        if not 0 < fraction < 1:
            raise InputError(f"fraction: got {fraction}, expected above 0 and below 1")
        layout = Layout(("layer",), (bits,))
        draw = numpy_rng(0, "codec benchmark", round(fraction * 10**6)).random(bits, np.float32)
        mask = Mask.from_bools(layout, draw < fraction)
        bound = mask_bound_bits(mask)
        rows += [
            {"fraction": fraction, **_measure(contender, mask, bound)}
            for contender in contenders(layout)
        ]
    return rows


def ballot_table(folder: Path) -> list[dict[str, Any]]:
    """Measure every codec on real ballots: the first client's of every recorded round.

    mpfl's codecs know what they do in a run: the mask before the round, the classes of the units
    and the widths of the layers. The bound, too, is that of the ballot given mask and classes;
    ``matrix``, which uses more than these, may stay below it. The others compress all bits.

    Parameters
    ----------
    folder
        Of a run with ``engine.record_ballots``.

    Returns
    -------
    list of dict
        As `codec_table`, with the column ``ballot`` instead of ``fraction``.

    Raises
    ------
    InputError
        If the folder holds no run or no ballots, or these do not lead to the run's masks.
    RuntimeError
        If a codec does not give back what it was given.
    """
    judge(folder)  # says what is wrong with the folder
    world = world_from_toml((folder / "config.toml").read_text())
    rounds = recorded_rounds(folder)
    rows = []
    previous = Mask.full(world.layout)
    for number in sorted(rounds):
        clients, ballots = read_ballots(rounds[number], world)
        title = f"round {number}, client {clients[0]}"
        rows += _known_rows(world, title, ballots[0], previous)
        previous = judge(folder, number).used or previous
    return rows


def model_table(
    name: str, densities: Sequence[float] = (0.5, 0.1), train_samples: int = 0
) -> list[dict[str, Any]]:
    """Measure every codec on ballots of a network: the first round's, by what a run knows then.

    One client of five trains on handwritten digits for an epoch from w0, scores and ranks. The
    receiver holds the full mask and knows the classes of |w0|; of the last ballot it also holds
    the first one, as in a second round.

    Parameters
    ----------
    name
        A model of `mpfl list models` that takes digits, images of 8 x 8.
    densities
        Of the ballots.
    train_samples
        Of all clients together; 0: all there are.

    Returns
    -------
    list of dict
        As `codec_table`, with the column ``ballot`` instead of ``fraction``.

    Raises
    ------
    InputError
        If there is no such model, or it does not take such images.
    RuntimeError
        If a codec does not give back what it was given.
    """
    experiment = Experiment(
        method="mpfl",
        data=DataConfig(name="digits", clients=5, train_samples=train_samples),
        model=ModelConfig(name=name),
    )
    world = build_world(experiment)
    samples, full = (
        world.data.train.subset(torch.from_numpy(world.parts[0])),
        Mask.full(world.layout),
    )
    config = experiment.train
    generator = torch_generator(experiment.seed, "codec benchmark")
    world.masked.train(samples, full, config, lr=config.lr, epochs=1, generator=generator)
    rows: list[dict[str, Any]] = []
    ballots = []
    for density in densities:
        pruning = replace(experiment.prune, density=density, rounds=1)
        voter = replace(world, experiment=replace(experiment, prune=pruning))
        ballots.append(cast_ballot(voter, samples, full, round_number=1, client=0))
        rows += _known_rows(world, f"density {density:g}", ballots[-1], full)
    title = f"density {densities[-1]:g} after {densities[0]:g}"
    return rows + _known_rows(world, title, ballots[0] & ballots[-1], ballots[0])


def _known_rows(world: World, title: str, mask: Mask, held: Mask) -> list[dict[str, Any]]:
    """Return the rows of a ballot whose receiver holds a mask and knows the world's classes."""
    within, classes = mask_context(world.classes, held, mask.issubset(held))
    bound = mask_bound_bits(mask, within, classes)
    known = {"within": within, "classes": classes}
    return [
        {"ballot": title, **_measure(contender, mask, bound)}
        for contender in contenders(world.layout, known, world.widths)
    ]


def contenders(
    layout: Layout, known: Mapping[str, Any] | None = None, widths: Sequence[int] = ()
) -> list[Contender]:
    """Return mpfl's codecs, ``auto`` first, and then the others.

    `known` is what both sides know, ``within`` and ``classes``; `widths` lets `matrix` take part,
    which is for masks with structure.
    """
    known = known or {}
    own = ["auto", *(name for name in MASK_CODECS.names() if name != "matrix" or any(widths))]
    packed = Mask.packed
    return [
        *(
            Contender(
                f"mpfl {name}",
                partial(encode_mask, codec=name, widths=widths or None, **known),
                partial(decode_mask, layout=layout, **known),
                lambda mask: mask,
            )
            for name in own
        ),
        Contender("zlib", lambda mask: zlib.compress(mask.packed(), 6), zlib.decompress, packed),
        Contender(
            "bitarray sc_encode",
            lambda mask: sc_encode(bitarray(mask.bits)),
            sc_decode,
            lambda mask: mask.bits,
        ),
    ]


def _measure(contender: Contender, mask: Mask, bound_bits: float) -> dict[str, Any]:
    encode_seconds, blob = _best(lambda: contender.encode(mask))
    decode_seconds, back = _best(lambda: contender.decode(blob))
    if back != contender.expected(mask):
        raise RuntimeError(f"{contender.name} does not give back the mask")
    megabits = mask.layout.total / 1e6
    return {
        "codec": contender.name,
        "bytes": len(blob),
        "bits_per_unit": 8 * len(blob) / mask.layout.total,
        "size_over_bound": 8 * len(blob) / bound_bits if bound_bits else float("inf"),
        "encode_mbit_per_second": megabits / encode_seconds,
        "decode_mbit_per_second": megabits / decode_seconds,
    }


def _best(action: Callable[[], Any]) -> tuple[float, Any]:
    seconds = float("inf")
    result = None
    for _ in range(REPEATS):
        start = time.process_time()
        result = action()
        seconds = min(seconds, time.process_time() - start)
    return seconds, result
