"""Elementwise functions and operators, and the alignment of their operands."""
