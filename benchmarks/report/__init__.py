"""The report of a run or a comparison: a page, its figures, and tables."""
