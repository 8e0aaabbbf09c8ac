"""The harness: command line, presets, experiments, comparisons, reports, speed benchmarks."""
