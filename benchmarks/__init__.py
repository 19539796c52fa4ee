"""The cost of scheduled snapshots: `python -m benchmarks` prints one page of ratios."""
