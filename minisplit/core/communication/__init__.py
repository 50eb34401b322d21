"""The ranks that exchange data: the protocol, its MPI form, agreements on errors, debug mode, the watchdog."""
