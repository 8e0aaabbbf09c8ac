"""Trouble as configuration: lost replies, forged ballots, spoiled data."""
