"""Benchmarks: each measures the contenders in turn, in one run, and prints ratios."""
