"""Running a mapped function on the samples of one rank, in chunks, of which whole outputs are made."""
