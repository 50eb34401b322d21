"""Looking at arrays, and at where the time of a program goes."""
