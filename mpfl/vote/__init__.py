"""The vote: a streaming tally of ballots, the rules that turn it into a mask, a laboratory."""

from mpfl.vote.laboratory import RuleResult, compare_rules, vote_statistics
from mpfl.vote.rules import (
    RULES,
    Rule,
    Vote,
    VoteContext,
    ballot_agreement,
    decide,
    needs_ballots,
    trim,
)
from mpfl.vote.tally import Tally

__all__ = [
    "RULES",
    "Rule",
    "RuleResult",
    "Tally",
    "Vote",
    "VoteContext",
    "ballot_agreement",
    "compare_rules",
    "decide",
    "needs_ballots",
    "trim",
    "vote_statistics",
]
