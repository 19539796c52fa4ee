"""What scheduled snapshots cost: `python -m benchmarks` prints one page of ratios."""
