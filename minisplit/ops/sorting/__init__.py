"""Sorting, searching, sets, quantiles and histograms."""
