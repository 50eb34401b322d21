"""How ranks communicate: the protocol, its forms, and what happens when a rank fails.

| module | what is in it |
| --- | --- |
| `debug` | debug mode, call sites, checksums |
| `reduce_ops` | how two ranks' contributions to a reduction become one |
| `arguments` | the checks of what its methods are called with |
| `protocol` | `Communication`, and the communicator in use |
| `agreement` | an error of one rank, raised on all |
| `handles` | by what the watchdog knows a communicator |
| `job` | what an engine tells of the job, and does for it |
| `single`, `mpi`, `torch_distributed` | the engines: one process, MPI, torch.distributed |
| `engine` | the choice of one of them |
| `watchdog` | the thread that ends a job that cannot go on |
| `startup` | `WORLD`, `SELF`, and what `import minisplit` does once |

Only `mpi` imports mpi4py, beside those that start jobs and test in them, and only where MPI is the engine.
"""
