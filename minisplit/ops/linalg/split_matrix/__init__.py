"""Algorithms for one matrix, or operand, that is split over the ranks and that no rank gathers."""
