"""`python -m minisplit`: starts jobs, says what is there, and tests it. Works where no MPI library can be loaded.

Standard library only, and no MPI in this process: an MPI library that starts a launcher confuses its ranks.
"""
