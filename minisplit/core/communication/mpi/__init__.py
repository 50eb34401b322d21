"""Ranks that are the processes of an MPI job. Imported only where MPI is the engine."""
