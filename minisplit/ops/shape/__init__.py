"""Other shapes and orders of arrays: reshape, transpose, join, split, tile, pad, roll, take."""
