"""Reductions along axes, running sums and averages."""
