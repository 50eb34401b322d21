"""Running a mapped function on the samples of one rank, in chunks, and joining the chunks' outputs."""
