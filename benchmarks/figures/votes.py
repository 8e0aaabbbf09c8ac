"""Figures of one run's votes: agreement, other rules, votes per unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures.palette import BLUE, GRID, PALETTE, VERMILION, layer_style
from benchmarks.figures.style import (
    Picture,
    draw_line,
    legend_below,
    log_share_axis,
    new_figure,
    percent_axis,
    picture,
    round_axis,
    row_height,
    row_names,
    styled,
)
from benchmarks.results.rundata import RunData
from benchmarks.units import percent_text


@styled
def vote_agreement(run: RunData) -> Picture | None:
    """Draw unanimity and pooled overlap of the ballots over rounds."""
    lines = [(line.round, line.vote) for line in run.rounds if line.vote]
    if not lines:
        return None
    figure, axes = new_figure(2.00)
    rounds = [number for number, _ in lines]
    unanimity = [vote.unanimity for _, vote in lines]
    overlap = [vote.overlap for _, vote in lines]
    axes.plot(rounds, unanimity, color=BLUE, marker="s", label="unanimous")
    axes.plot(rounds, overlap, color=VERMILION, marker="o", label="overlap")
    axes.set(ylabel="share (%)", ylim=(0, 1.03))
    percent_axis(axes.yaxis)
    round_axis(axes)
    legend_below(figure, axes)
    return picture(
        figure,
        "vote_agreement",
        "How far the clients agree",
        "Share of units on which all ballots of a round agree, and how much two ballots overlap "
        "(Jaccard: units kept by both / kept by either, each summed over all pairs).",
        f"In the last vote {percent_text(unanimity[-1], 1)} of the units are unanimous and the "
        f"overlap is {percent_text(overlap[-1], 1)}.",
    )


@styled
def rule_density(run: RunData) -> Picture | None:
    """Draw the density that every vote rule would have given on the same ballots."""
    lines = [(line.round, line.vote.densities) for line in run.rounds if line.vote]
    if not lines:
        return None
    if len(lines) == 1:
        return _rules_of_one_round(*lines[0])
    figure, axes = new_figure(2.22)
    rounds = [number for number, _ in lines]
    for index, rule in enumerate(lines[-1][1]):
        densities = [table.get(rule, math.nan) for _, table in lines]
        draw_line(axes, rounds, densities, layer_style(index), label=rule, markevery=None)
    axes.set(ylabel="density", ylim=(0, 1.03))
    round_axis(axes)
    legend_below(figure, axes)
    return picture(
        figure,
        "rule_density",
        "What other vote rules would have kept",
        "Density that each vote rule would have given on the ballots of each round.",
        _rule_words(lines[-1][1]),
    )


def _rules_of_one_round(number: int, table: Mapping[str, float]) -> Picture:
    """Draw the densities of all rules in the only round that voted: one row a rule."""
    figure, axes = new_figure(0.6 + row_height(list(table), 0.24))
    for place, density in enumerate(table.values()):
        axes.plot([0, density], [place, place], color=GRID, lw=3, zorder=1)
        axes.plot([density], [place], color=VERMILION, marker="o", ls="", zorder=2)
        axes.annotate(
            f"{density:.3g}", (density, place), (7, 0), textcoords="offset points", va="center"
        )
    row_names(axes, list(table))
    axes.set(xlabel="density", xlim=(0, 1.1), ylim=(len(table) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    return picture(
        figure,
        "rule_density",
        "What other vote rules would have kept",
        f"Density that each vote rule would have given on the ballots of round {number}.",
        _rule_words(table),
    )


def _rule_words(table: Mapping[str, float]) -> str:
    values = ", ".join(f"{rule} {value:.3g}" for rule, value in table.items())
    return f"On the last ballots: {values}."


def last_histogram(run: RunData) -> Picture | None:
    """Draw how many units got how many votes in the last vote."""
    voted = [(line, line.vote.histogram) for line in run.rounds if line.vote]
    if not voted:
        return None
    line, table = voted[-1]
    made: Picture = vote_histogram(line.round, table, line.clients_replied)
    return made


@styled
def vote_histogram(number: int, table: Mapping[str, Sequence[int]], ballots: int = 0) -> Picture:
    """Draw how many units of each layer got how many of the ballots of round `number`.

    Parameters
    ----------
    table
        Layer → units by votes, as in `VoteStatistics`; or by each possible number of votes.
    ballots
        How many there were, where that is not to be read off `table`.
    """
    if len(table) > len(PALETTE):
        pooled = np.sum(list(table.values()), axis=0)
        table = {f"all {len(table)} layers": pooled.tolist()}
    figure, axes = new_figure(2.15)
    for index, (name, counts) in enumerate(table.items()):
        shares = np.asarray(counts) / max(1.0, float(np.sum(counts)))
        bins, places = vote_shares(shares.size, ballots)
        drawn = np.where(shares > 0, shares, np.nan)[bins]
        steps = {"drawstyle": "steps-mid", "markevery": None}
        draw_line(axes, places, drawn, layer_style(index), label=name, **steps)
    axes.set(xlabel="ballots that keep the unit (%)", ylabel="share of units (%, log scale)")
    axes.set_yscale("log")
    log_share_axis(axes.yaxis, 100.0)
    legend_below(figure, axes, 4)
    return picture(
        figure,
        "vote_histogram",
        "Votes per unit",
        f"Share of each layer's units by the share of ballots that keep them, in the last vote "
        f"(round {number}); log scale. Agreement piles up at both ends.",
        f"Histogram of votes per unit in round {number}.",
    )


def vote_shares(bins: int, ballots: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the bins of a vote histogram to draw, and where: per cent of the ballots.

    A bin holds the shares above the one before it up to its own. Of few ballots each bin has one
    exact share or none, and those with none are left out.
    """
    if not 0 < ballots < bins:
        return np.arange(bins), np.linspace(0, 100, bins)
    votes = np.arange(ballots + 1)
    return -(-votes * (bins - 1) // ballots), 100 * votes / ballots
