"""What every vote rule would have made of the ballots that a run recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results.loading import check_run, read_mask, settled_rounds
from mpfl.ballot import vote_density
from mpfl.config import to_toml
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.vote import Tally, VoteContext, decide
from mpfl.vote.laboratory import (
    RuleResult,
    compare_rules,
    default_rules,
    tally_for,
    vote_statistics,
)
from mpfl.world import World, world_from_toml
from server.records import RoundRecord
from server.runfolder import read_config

_BALLOT = re.compile(r"client-(\d+)\.mpfl")
_ROUND = re.compile(r"round-(\d+)")
_CLOSE = 1e-9


@dataclass(frozen=True)
class Judged:
    """One round's ballots, judged by every rule.

    Attributes
    ----------
    round
        Its number.
    used
        The mask that the run went on with; None if its method does not let rules vote.
    rule
        The run's own rule.
    results
        What each rule makes of the ballots.
    unanimity
        Share of the eligible units on which all ballots agree.
    overlap
        Pooled Jaccard overlap of all pairs of ballots.
    histogram
        Per layer, how many eligible units got 0, 1, …, K ballots.
    """

    round: int
    used: Mask | None
    rule: str
    results: tuple[RuleResult, ...]
    unanimity: float
    overlap: float
    histogram: Mapping[str, list[int]]


def judge(folder: Path, round_number: int = 0) -> Judged:
    """Apply every rule to the recorded ballots of a round.

    The mask before that round is found by repeating the votes of the rounds before it.

    Parameters
    ----------
    round_number
        The round; 0 is the last one with ballots that counted.

    Raises
    ------
    InputError
        If the folder holds no run, no ballots of that round or of one before it, damaged
        ballots, or ballots that do not lead to the densities the run has recorded; if the round
        did not count.
    """
    experiment = read_config(folder)
    check_run(folder)
    recorded = recorded_rounds(folder)
    if not recorded:
        raise InputError(
            f"{folder} holds no ballots; record them with --set engine.record_ballots=true"
        )
    lines = {line.round: line for line in settled_rounds(folder)}
    counted = [n for n in recorded if n in lines and lines[n].counted]
    number = round_number or max(counted, default=max(recorded))
    if number not in recorded:
        known = ", ".join(map(str, sorted(recorded)))
        raise InputError(f"--round: no ballots of round {number} (recorded: {known})")
    if number not in lines:
        raise InputError(f"--round: round {number} is not finished")
    if not lines[number].counted:
        raise InputError(f"--round: round {number} did not count, so nothing was decided")
    world = world_from_toml(to_toml(experiment))
    previous = Mask.full(world.layout)
    for earlier in (lines[n] for n in sorted(lines) if n < number and lines[n].vote):
        if earlier.round not in recorded:
            raise InputError(f"{folder} holds no ballots of round {earlier.round}")
        clients, ballots = read_ballots(recorded[earlier.round], world)
        previous = _decided(world, earlier, previous, clients, ballots)
    return _judge(world, lines[number], previous, *read_ballots(recorded[number], world))


def recorded_rounds(folder: Path) -> dict[int, Path]:
    """Return the folders of recorded ballots by round."""
    found = {}
    for path in (folder / "ballots").glob("round-*"):
        if (match := _ROUND.fullmatch(path.name)) and any(path.glob("client-*.mpfl")):
            found[int(match[1])] = path
    return found


def read_ballots(folder: Path, world: World) -> tuple[list[int], list[Mask]]:
    """Return the clients that voted in a round, sorted, and their ballots."""
    files = {}
    for path in folder.iterdir():
        if match := _BALLOT.fullmatch(path.name):
            files[int(match[1])] = path
    ballots = [read_mask(files[client]) for client in sorted(files)]
    for client, ballot in zip(sorted(files), ballots, strict=True):
        if ballot.layout != world.layout:
            raise InputError(f"{files[client]}: a ballot over other layers than the run's")
        if client >= len(world.parts):
            raise InputError(f"{files[client]}: the run has {len(world.parts)} clients")
    return sorted(files), ballots


def _judge(
    world: World, line: RoundRecord, previous: Mask, clients: Sequence[int], ballots: Sequence[Mask]
) -> Judged:
    weights, context = _context(world, line, previous, clients, ballots)
    used = _decided(world, line, previous, clients, ballots) if line.vote else None
    own = [world.experiment.prune.vote] if line.vote else []
    rules = list(dict.fromkeys([*default_rules(), *own]))
    tally = Tally(world.layout)
    for ballot in ballots:
        tally.add(ballot)
    counts, eligible = tally.counts(), context.eligible
    statistics = vote_statistics(counts, len(ballots), context, rules=())
    histogram = {
        name: np.bincount(counts[part][eligible[part]], minlength=len(ballots) + 1).tolist()
        for name, part in zip(world.layout.names, world.layout.slices(), strict=True)
    }
    return Judged(
        round=line.round,
        used=used,
        rule=world.experiment.prune.vote,
        results=tuple(compare_rules(ballots, context, weights, rules)),
        unanimity=statistics.unanimity,
        overlap=statistics.overlap,
        histogram=histogram,
    )


def _decided(
    world: World, line: RoundRecord, previous: Mask, clients: Sequence[int], ballots: Sequence[Mask]
) -> Mask:
    """Repeat a round's vote; InputError if the run has recorded another result."""
    rule = world.experiment.prune.vote
    weights, context = _context(world, line, previous, clients, ballots)
    tally = tally_for(rule, ballots, weights, context)
    mask = decide(rule, tally.counts(), tally.weight, context)
    for name, density in mask.layer_densities().items():
        recorded = line.layer_density.get(name)
        if recorded is not None and abs(recorded - density) > _CLOSE:
            raise InputError(
                f"round {line.round}: the recorded ballots give {name} a density of "
                f"{density:.6f}, but the run had {recorded:.6f}"
            )
    return mask


def _context(
    world: World, line: RoundRecord, previous: Mask, clients: Sequence[int], ballots: Sequence[Mask]
) -> tuple[list[int], VoteContext]:
    """Return the ballots' weights and what else the server knew."""
    config = world.experiment.prune
    weights = [len(world.parts[client]) if config.weighted else 1 for client in clients]
    regrow = line.phase != "mask"
    if line.vote is None:  # of another method: its ballots choose among all units
        density, previous = float(np.mean([b.density() for b in ballots])), Mask.full(world.layout)
    elif regrow:
        density = previous.density()
    else:
        tally = tally_for("any", ballots, weights, _plain(world))
        density = vote_density(world, line.round, tally.counts(), tally.weight)
    context = VoteContext(
        layout=world.layout,
        density=density,
        previous=previous,
        tie_break=world.tie_break,
        tie=config.tie,
        min_units=config.min_units,
        allow_regrow=regrow,
    )
    return weights, context


def _plain(world: World) -> VoteContext:
    return VoteContext(world.layout, 1.0, Mask.full(world.layout), world.tie_break)
