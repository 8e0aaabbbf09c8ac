"""Studies: one command each, whose tables stand in ``docs/results``."""
