"""`python -m minisplit`: starts jobs, shows what is installed, and tests it. Works without an MPI library.

The process that starts a job uses the standard library only and loads no MPI: an MPI library sets environment
variables for the process that it is in, and a launcher would pass them on to the ranks.
"""
