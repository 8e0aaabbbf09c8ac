"""From importance scores to a ballot: rankings, and the density of every round."""

from mpfl.ranking.rankings import RANKINGS, Order, Ranking, rank
from mpfl.ranking.schedule import SCHEDULES, density_path

__all__ = ["RANKINGS", "SCHEDULES", "Order", "Ranking", "density_path", "rank"]
