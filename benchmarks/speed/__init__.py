"""Speed benchmarks: each against the naive way, side by side in one run."""
