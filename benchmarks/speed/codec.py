"""Size and speed of every mask codec beside general compressors, in one run."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bitarray import bitarray
from bitarray.util import sc_decode, sc_encode

from benchmarks.results.ballots import judge, read_ballots, recorded_rounds
from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.seeding import numpy_rng
from mpfl.wire import MASK_CODECS, decode_mask, encode_mask, mask_bound_bits
from mpfl.wire.sections import mask_context
from mpfl.world import world_from_toml

REPEATS = 3


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
        and ``decode_mbit_per_second`` (Mbit of mask; best of three), in a fixed order.

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
        mask, title = ballots[0], f"round {number}, client {clients[0]}"
        within, classes = mask_context(world.classes, previous, mask.issubset(previous))
        bound = mask_bound_bits(mask, within, classes)
        known = {"within": within, "classes": classes}
        rows += [
            {"ballot": title, **_measure(contender, mask, bound)}
            for contender in contenders(world.layout, known, world.widths)
        ]
        previous = judge(folder, number).used or previous
    return rows


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
        start = time.perf_counter()
        result = action()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, result
