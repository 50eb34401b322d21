"""Whole jobs, started as a user starts them, and all the ways in which a job can go wrong."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from jobs import job
from mpi4py import MPI

ROOT = Path(__file__).parent.parent
# Open MPI's launcher ends a job itself on Ctrl-C, before a rank can say anything.
OPEN_MPI = MPI.get_vendor()[0] == "Open MPI"
PRELUDE = """\
import os, sys, threading, time
import torch
import minisplit as ms
comm, rank = ms.MPI_WORLD, ms.MPI_WORLD.rank
def wait():
    assert comm.allreduce(torch.ones(2)).tolist() == [comm.size] * 2
"""
pytestmark = [pytest.mark.serial, pytest.mark.jobs]


def with_each_mpi(*values):
    """A case that is run with a further MPI for those beside it: a job takes 1 to 3 s of a core to start."""
    return pytest.param(*values, marks=pytest.mark.mpi)


@pytest.fixture
def run(tmp_path):
    """Run a program as a job, `by` a module that takes it; its first line is line 7."""

    def run(ranks, program, by=(), **options):
        (tmp_path / "program.py").write_text(PRELUDE + program.lstrip("\n"))
        return job(ranks, *by, tmp_path / "program.py", **options)

    return run


def test_the_monte_carlo_example_prints_the_same_on_every_number_of_ranks():
    done = [job(ranks, "examples/monte_carlo.py", limit=100) for ranks in (1, 3)]
    assert {one.status for one in done} == {0}, done
    assert len({one.out for one in done}) == 1, done
    assert "of 15 schools: 0.776374" in done[0].out
    assert done[0].out.count("\n") == 8


@pytest.mark.parametrize(("chosen", "threads"), [("", 1), ("2", 64)], ids=["by itself", "by the user"])
def test_ranks_share_the_cores(tmp_path, chosen, threads):
    """Where each would take all of them, unless the user has said how many threads a rank is to have."""
    lines = ["import os, torch", "torch.set_num_threads(64)", "import minisplit"]
    lines += ["os.write(1, b'%d\\n' % torch.get_num_threads())"]
    (tmp_path / "program.py").write_text("\n".join(lines))
    ranks = max(2, os.cpu_count())
    done = job(ranks, tmp_path / "program.py", anew=True, OMP_NUM_THREADS=chosen, MKL_NUM_THREADS="")
    assert done.out.split() == [str(threads)] * ranks


@pytest.mark.parametrize("failing", [0, with_each_mpi(1)])
def test_J1_an_uncaught_exception_on_one_rank_ends_the_job(run, failing):
    """The other rank waits in a collective call, and would wait for ever."""
    done = run(2, f"if rank == {failing}: raise ValueError('spilled')\nwait()", anew=failing == 1)
    assert done.status == 1
    assert f"[rank {failing} of 2] uncaught exception" in done.err
    assert "ValueError: spilled" in done.err


def test_J1_also_in_a_profiled_block(run):
    done = run(2, "with ms.profile():\n    if rank == 1: raise ValueError('spilled')\n    wait()")
    assert done.status == 1
    assert "ValueError: spilled" in done.err


def test_J1_also_where_its_words_go_nowhere(run):
    done = run(2, "if rank == 1:\n    os.close(2)\n    raise ValueError('spilled')\nwait()")
    assert done.status == 1


def test_J1_an_error_of_all_ranks_is_told_once(run):
    done = run(3, "ms.resplit(ms.zeros((4, 3), split=0), 5)")
    assert done.status == 1
    assert done.err.count("IndexError: axis 5 is out of range for 2 dimensions") == 1
    assert "[rank 0 of 3] uncaught exception; ending the job" in done.err


@pytest.mark.mpi
def test_J2_a_killed_rank_ends_the_job(run):
    done = run(2, "wait()\nif rank == 1: os.kill(os.getpid(), 9)\nwait()", anew=True)
    assert done.status not in {0, None}
    assert "signal 9" in done.out + done.err


# What a rank of `python -m minisplit run` is.
RUN = (ROOT / "minisplit" / "launch" / "rank.py",)


@pytest.mark.parametrize(
    ("leaving", "call", "status"),
    [with_each_mpi(1, "sys.exit(3)", 3), (0, "exit('no such file')", 1), (1, "raise SystemExit(4)", 4)],
)
def test_J2_by_run_a_rank_that_leaves_with_a_status_ends_the_job(run, leaving, call, status):
    done = run(2, f"if rank == {leaving}:\n    print('last words')\n    {call}\nwait()", by=RUN, anew=status == 3)
    assert done.status == status
    assert f"[rank {leaving} of 2] left with status {status}; ending the job\n" in done.err
    assert "last words" in done.out
    assert ("no such file" in done.err) == ("file" in call)


def test_J2_by_run_all_ranks_may_leave_with_a_status(run):
    """As with wrong arguments, or failed tests: nothing that they say is lost, and little is added."""
    done = run(3, "wait()\nos.write(1, b'last words\\n')\nsys.exit(3)", by=RUN)
    assert done.status == 3
    assert done.out.count("last words") == 3
    # One, where Python takes no longer to end on rank 0 than the others wait for it.
    assert 1 <= done.err.count("left with status 3; ending the job") <= 3
    assert "Traceback" not in done.err


@pytest.mark.parametrize("by", [(), RUN], ids=["by itself", "by run"])
def test_J2_only_an_uncaught_exit_counts(run, by):
    program = """
import argparse, contextlib
try:
    sys.exit(3)
except SystemExit as error:
    assert error.code == 3 and error.args == (3,)
with contextlib.suppress(SystemExit):
    argparse.ArgumentParser().parse_args(["--nonsense"])
thread = threading.Thread(target=sys.exit, args=(4,))
thread.start()
thread.join()
if rank == 0:
    sys.exit()
elif rank == 1:
    exit(0)
"""
    done = run(3, program, by=by)
    assert done.status == 0, done.err
    assert "ending the job" not in done.err
    assert "Exception in thread" not in done.err


def test_J2_the_import_leaves_pythons_exits_alone(tmp_path):
    program = """
import sys
before = sys.exit, exit, quit
import minisplit
assert (sys.exit, exit, quit) == before
sys.exit(3)
"""
    (tmp_path / "program.py").write_text(program)
    assert job(2, tmp_path / "program.py").status == 3


@pytest.mark.parametrize("by", [with_each_mpi(()), ("-m", "mpi4py")], ids=["by itself", "by mpi4py"])
def test_J2_a_rank_that_leaves_with_a_status_by_itself_is_missed_by_the_others(run, by):
    done = run(2, f"{IMPATIENT}if rank == 1: sys.exit(3)\nwait()", by=by)
    assert done.status == 1
    assert "rank 0 waits in collective call #2, but rank 1 has left its program after #1" in done.err


def test_F3_a_rank_that_is_killed_while_it_saves_leaves_the_old_file(run, tmp_path):
    program = """
from minisplit.io.formats import raw
path = os.path.join(os.path.dirname(__file__), "x.npy")
ms.save(ms.zeros(8, split=0), path)
write_at = raw.write_at
def killed(*args):
    write_at(*args)
    if rank == 1:
        os.kill(os.getpid(), 9)
raw.write_at = killed
ms.save(ms.ones(8, split=0), path)
"""
    assert run(2, program).status not in {0, None}
    assert np.load(tmp_path / "x.npy").tolist() == [0.0] * 8
    rest = {path.name for path in tmp_path.iterdir()} - {"program.py", "x.npy"}
    assert all(name.startswith(".x.npy.") and name.endswith((".partial", ".0.lock")) for name in rest)


def test_F3_a_file_that_cannot_grow_is_an_error_in_every_format(run, tmp_path):
    """And the process ends as it should, which HDF5 by itself would not let it."""
    program = """
import resource
folder = os.path.dirname(__file__)
x = ms.random.rand(100_000, 2, split=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for name, options in [("x.npy", {}), ("x.h5", {}), ("y.h5", {"compression": "gzip"}), ("x.zarr", {}),
                      ("x.safetensors", {}), ("x.csv", {}), ("x.parquet", {})]:
    ms.save(x[:3], f"{folder}/{name}", **options)
    try:
        ms.save(x, f"{folder}/{name}", **options)
    except OSError as error:
        assert "File too large" in str(error), error
        assert len(ms.load(f"{folder}/{name}")) == 3
        print(name)
"""
    done = run(1, program)
    names = ["x.npy", "x.h5", "y.h5", "x.zarr", "x.safetensors", "x.csv", "x.parquet"]
    assert (done.status, done.out.split()) == (0, names), done.err
    assert {path.name for path in tmp_path.iterdir()} == {"program.py", *names}


STUCK = """
def compute():
    time.sleep(100)
if rank == 1: compute()
if rank == 2: wait()
"""


def test_J3_a_wait_that_is_too_long_ends_the_job(run):
    """One rank has left, one computes, one waits for both, and each says so."""
    done = run(3, STUCK, MINISPLIT_TIMEOUT="1")
    assert done.status == 1
    assert "[rank 2 of 3] waited longer than MINISPLIT_TIMEOUT=1 s; ending the job\n" in done.err
    assert "[rank 2 of 3] waits in allreduce(torch.float32, (2,), sum), call #1, since 1." in done.err
    assert " s at program.py:6\n" in done.err
    assert '/program.py", line 10, in <module>\n' in done.err
    assert "[rank 1 of 3] is in no collective call\n" in done.err
    assert '/program.py", line 8, in compute\n' in done.err
    assert "[rank 0 of 3] has left its program\n" in done.err


IMPATIENT = """
from minisplit.core.communication import watchdog
watchdog.PATIENCE = 0.5
x = ms.arange(6, split=0)
wait()
"""


@pytest.mark.parametrize("waiting", [0, with_each_mpi(2)])
def test_J3_a_rank_that_has_left_is_not_waited_for(run, waiting):
    """Also without a limit."""
    done = run(3, f"{IMPATIENT}if rank == {waiting}: x.sum().item()")
    assert done.status == 1
    gone = 1 if waiting == 0 else 0
    said = f"rank {waiting} waits in collective call #2, but rank [{gone}{gone + 1}] has left its program after #1"
    assert re.search(said, done.err)
    assert re.search(rf"\[rank {waiting} of 3\] waits in allreduce\(torch.int64, .*, sum\), call #2", done.err)
    assert f"[rank {gone} of 3] has left its program\n" in done.err


def test_J3_ranks_that_wait_in_different_calls_end(run):
    done = run(
        2, f"{IMPATIENT}comm.split(0).agree(np.zeros(1, int)) if rank else comm.allgather_record(np.zeros(9, int))"
    )
    assert done.status == 1


# What ranks do that differs, and what is said of it. `half` is the communicator of the even or odd ranks.
MISMATCHES = [
    (2, "x[0] if rank == 0 else x.sum(axis=0)", "rank 0 has made another one: allreduce(.*) here, broadcast"),
    (3, "x[0] if rank == 0 else x.sum(axis=0)", "rank 1 waits in collective call #4"),
    (4, "x[0] if rank == 0 else x.sum(axis=0)", "rank 1 waits in collective call #4"),
    (3, "x.redistribute([2, 0, 4]) if rank == 0 else x.sum().item()", "exchange"),
    (3, "ms.zeros(6, split=0).redistribute([6, 0, 0] if rank == 0 else [0, 0, 6])", "over .6, 0, 0.. here"),
    (3, "x[torch.arange(5 if rank == 1 else 3)]", "rows of"),
    (3, "x[1].item()", ""),  # to begin with: this is no mismatch
    (2, "comm.broadcast(torch.zeros(2)) if rank == 0 else comm.allreduce(torch.zeros(2))", "from rank 0"),
    (2, "(comm.broadcast(torch.zeros(2)), time.sleep(60)) if rank == 0 else wait()", "from rank 0"),
    (2, "comm.broadcast(torch.zeros(2), 1 - rank)", "from rank"),
    (3, "if rank != 1: wait()", "rank 1 has left its program after #3"),
    (3, "for i in range(3 + rank): wait()", "rank 0 has left its program after #6"),
    (
        4,
        "if half.rank == 1: half.allreduce(torch.ones(1))",
        "#2 of the communicator of ranks ., ., .* has left",
    ),
    (2, "p = comm.split(0)\np.agree(ONE)\n(p if rank else comm).agree(ONE)", "ranks wait for each other: .* 0, 1"),
    (2, "p = comm.split(0)\n(p if rank else comm).agree(ONE)", "ranks wait for each other: .* 0, 1"),
    (2, "if rank: comm.split(0).agree(ONE)\nelse: comm.split(0)\nwait()", "rank 0 has dropped the communicator"),
    (2, "p = comm.split(0)\np.free() if rank else p.agree(ONE)", "agree.* here, free there"),
    (4, "half.allreduce(torch.ones(1)) if rank < 2 else half.broadcast(torch.ones(9), 1)\nwait()", "of ranks"),
    (2, "p = ms.MPICommunication(MPI.COMM_WORLD)\nif rank: p.agree(ONE)", "rank 0 has left its program after #0"),
    (
        2,
        "p = ms.MPICommunication(MPI.COMM_WORLD)\nfor i in range(2 - rank): p.agree(ONE)",
        "1 has left.* after #1",
    ),
    (3, "ms.sort(x) if rank == 0 else x.sum()", "allgather"),
    (2, "x.resplit(None) if rank == 0 else x[5].item()", "broadcast"),
    (2, "if rank: x[3].item()\nelse: wait()", "broadcast"),
    (3, "if rank == 0: x[1:] = x[:-1]\nelse: x[0].item()", "exchange"),
    (3, "ms.vmap(torch.sin)(x) if rank == 0 else None", "agree"),
    (2, "comm.scan(torch.ones(3)) if rank == 0 else comm.allreduce(torch.ones(3))", "scan"),
    (2, "comm.broadcast_bytes(b'ab', 1) if rank == 1 else comm.agree(ONE)", "broadcast_bytes"),
]


# In groups, since a test that takes as long as all of them together looks as if it stood still.
GROUPS = range(0, len(MISMATCHES), 6)


@pytest.mark.parametrize("first", [*GROUPS[:-1], with_each_mpi(GROUPS[-1])])
def test_J5_calls_that_differ_end_the_job(tmp_path, first):
    """Also where one does not wait, as the root of a broadcast, or a rank without a part in an exchange."""
    group = MISMATCHES[first : first + 6]

    def run(number):
        ranks, code, _ = group[number]
        program = (
            f"from mpi4py import MPI\nONE = np.zeros(1, int)\nhalf = comm.split(rank % 2)\nhalf.agree(ONE)\n{code}"
        )
        path = tmp_path / f"{number}.py"
        path.write_text(f"{PRELUDE}import numpy as np\n{IMPATIENT}wait()\n{program}\n")
        return job(ranks, path, limit=60)

    with ThreadPoolExecutor(3) as jobs:
        ended = list(jobs.map(run, range(len(group))))
    for (_, code, words), done in zip(group, ended, strict=True):
        assert bool(done.status) == bool(words), (code, done)
        assert re.search(words, done.err), (code, done.err)


def test_J11_a_rank_that_is_merely_slow_does_not_end_the_job(run):
    """It sleeps, holds Python's lock, waits for another process, is stopped: others wait in calls of any kind."""
    program = """
import ctypes, subprocess
halves = comm.split(rank % 2)
slow = [
    lambda: time.sleep(2.5),
    lambda: ctypes.PyDLL(None).usleep(2500000),
    lambda: subprocess.run(["sleep", "2.5"]),
    lambda: subprocess.run(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 2.5; kill -CONT {os.getpid()}"]),
]
for turn, be_slow in enumerate(slow):
    if rank == turn % 3: be_slow()
    halves.broadcast(torch.zeros(2))
    x[turn].item()
    x.redistribute([2, 4, 0])
    if rank == (turn + 1) % 3: be_slow()
    wait()
"""
    done = run(3, IMPATIENT + program, limit=90)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("size", [6, with_each_mpi(6_000_000)])
def test_J3_the_first_call_is_an_exchange_in_which_a_rank_has_no_part(run, size):
    """All ranks make minisplit's communicator in it."""
    done = run(3, f"x = ms.arange({size}, split=0)\nx.redistribute([{size} // 2, {size} // 6, {size} // 3])")
    assert (done.status, done.err) == (0, "")


@pytest.mark.mpi
def test_J3_a_rank_that_has_done_its_part_may_leave(run):
    program = """
if rank: time.sleep(2)
comm.broadcast(torch.zeros(1), 0)
if rank: time.sleep(2)
"""
    done = run(2, IMPATIENT + program)
    assert (done.status, done.err) == (0, "")


@pytest.mark.mpi
def test_J3_without_threads_in_the_mpi_library(tmp_path):
    (tmp_path / "program.py").write_text(f"import mpi4py\nmpi4py.rc.thread_level = 'single'\n{PRELUDE}{STUCK}")
    done = job(3, tmp_path / "program.py", MINISPLIT_TIMEOUT="1")
    assert done.status != 0
    assert "[rank 2 of 3] waits in allreduce(torch.float32, (2,), sum), call #1, since 1." in done.err


def test_J3_jobs_in_time_end_well(run):
    """The limit is one for each call, and a rank may finalise MPI itself, or leave a long time later."""
    program = """
from mpi4py import MPI
for _ in range(9):
    if rank == 0: time.sleep(0.5)
    wait()
if rank == 0: MPI.Finalize()
if rank == 1: time.sleep(4.2)
"""
    done = run(3, program, MINISPLIT_TIMEOUT="4")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(("computing", "send"), [with_each_mpi(False, os.kill), (True, os.killpg)])
def test_J4_ctrl_c_ends_the_job(run, computing, send):
    """Also where all ranks are inside of MPI, where Python cannot raise KeyboardInterrupt."""
    program = f"""
parts = comm.split(0), comm.split(0)
os.write(1, b"ready\\n")
while rank == 0 and {computing}: time.sleep(0.1)
parts[rank].allreduce(torch.ones(1))  # for which the other rank does not come
"""
    done = run(2, program, anew=not computing, interrupt=lambda launcher: send(launcher, signal.SIGINT))
    assert done.status not in {0, None}
    if not OPEN_MPI:
        said = "KeyboardInterrupt" if computing else "interrupted while it waits; ending the job"
        assert said in done.err


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("where", ["mapped", "agreement"])
def test_J4_an_interrupt_of_one_rank_ends_the_job(run, where, caught):
    """Also where the rank catches it and goes on: the others wait for it, and it is not raised on them."""
    program = f"""
from minisplit.core.communication.agreement import agreement
def stop(v=None):
    if rank == 1: raise KeyboardInterrupt
    return v
try:
    if {where!r} == "mapped":
        ms.vmap(stop)(ms.arange(2, split=0))
    else:
        with agreement(comm, "stopping"): stop()
except KeyboardInterrupt:
    if not {caught}: raise
wait()
os.write(1, b"went on\\n")
"""
    done = run(2, program)
    assert done.status not in {0, None}
    assert "went on" not in done.out
    assert caught or "KeyboardInterrupt" in done.err


def test_J5_different_calls_are_named_on_all_ranks(run):
    program = """
from mpi4py import MPI
x = ms.arange(6, split=0)
calls = {
    "a": lambda: comm.allreduce(torch.ones(2)),
    "b": lambda: x.resplit(None),
    "c": lambda: comm.allreduce(torch.ones(3)),
    "d": lambda: comm.allreduce(torch.ones(2), "max"),
    "e": lambda: comm.allreduce(torch.ones(2)),
    "f": lambda: comm.broadcast(torch.ones(2)),
    "g": lambda: comm.broadcast(torch.ones(2), 1),
    "h": lambda: comm.split(0),
    "i": lambda: (comm.allreduce(torch.ones(2)), x.resplit(None)),
    "j": lambda: (x.resplit(None), comm.allreduce(torch.ones(2))),
}
lines = {name: f"program.py:{call.__code__.co_firstlineno}" for name, call in calls.items()}
for pair in ["ab", "ac", "ad", "ae", "bf", "fg", "ah", "bh", "ij"]:
    try:
        calls[pair[rank]]()
    except ms.CollectiveError as error:
        texts = MPI.COMM_WORLD.allgather(str(error))
        assert texts[0] == texts[1], texts
        first, second = texts[0].split(", rank 1 ")
        assert "rank 0 " in first and first.endswith(lines[pair[0]]), texts
        assert second.endswith(lines[pair[1]]), texts
        os.write(1, b"named\\n")
    wait()
    assert x.resplit(None).tolist() == list(range(6))
"""
    done = run(2, program, MINISPLIT_DEBUG="1")
    assert done.status == 0, done.err
    assert done.out == "named\n" * 2 * 9


@pytest.mark.mpi
def test_J5_an_error_of_the_MPI_library_says_what_it_may_mean(run):
    done = run(2, "comm.broadcast(torch.ones(2 if rank else 100))")
    assert done.status == 1
    assert re.search(r"in broadcast\(torch.float32, \(2,\), .*0\), call #1 of this rank", done.err), done.err
    assert "MINISPLIT_DEBUG=1 names it" in done.err


@pytest.mark.mpi
def test_J6_a_launcher_of_another_mpi(tmp_path):
    """Its library does not find what this launcher left for it, and each rank is a job of its own."""
    program = """
import os, sys
for name in list(os.environ):
    if name.startswith("PMIX_") or name in {"PMI_FD", "PMI_PORT"}:
        del os.environ[name]
os.execv(sys.executable, [sys.executable, "-c", "import minisplit as ms; print('size', ms.MPI_WORLD.size)"])
"""
    (tmp_path / "program.py").write_text(program)
    done = job(2, tmp_path / "program.py", anew=True)
    assert done.out.count("size 1") == 2, done.err
    assert done.err.count("the launcher started 2 processes, but the MPI library sees one") == 2
    assert ("use the mpiexec that belongs to Open MPI" in done.err) == OPEN_MPI


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_that_a_rank_starts_are_jobs_of_their_own(tmp_path, method):
    """They import the program again: with the launcher's variables MPI would end them, and a pool start others."""
    program = """
import multiprocessing, sys, warnings
warnings.simplefilter("error")
import minisplit as ms
def square(x):
    return float((ms.array([x], split=0) ** 2).sum()) if sys.argv[1] != "fork" else x * x
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(ms.MPI_WORLD.size, pool.map(square, [2.0, 3.0]))
"""
    (tmp_path / "program.py").write_text(program)
    done = job(2, tmp_path / "program.py", method, anew=True)
    assert done.status == 0, done.err
    assert done.out.count("2 [4.0, 9.0]") == 2


def test_J6_jobs_of_one_rank_are_told():
    script = "import minisplit as ms; print(ms.MPI_WORLD.size)"
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI_COMM", "SLURM"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=alone | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "1"
    assert "the launcher started 4 processes, but the MPI library sees one" in done.stderr


def test_J7_no_mpi_library_where_MPI_was_asked_for():
    """`test_engine.py` has the process that nobody has started as a rank, which needs none."""
    script = "import minisplit"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"MPI4PY_LIBMPI": "/nowhere/libmpi.so", "MINISPLIT_ENGINE": "mpi"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "minisplit found no MPI library" in done.stderr
    assert 'pip install "minisplit[mpich]"' in done.stderr


@pytest.mark.parametrize("fault", ["a rank has left", "an exception"])
def test_J9_a_job_ends_also_where_nobody_can_read_why(tmp_path, fault):
    """Standard error is closed, or its disk is full, or it is a pipe that is full and that nobody reads."""
    ends = """
if rank == 0:
    comm.allreduce(torch.ones(1))
elif {fault!r} == "an exception":
    raise ValueError("lost")
"""
    dead = {
        "closed": "os.close(2)",
        "full disk": "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
        "pipe": """
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while os.write(writer, bytes(4096)): pass
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, 2)
""",
    }

    def run(name):
        path = tmp_path / f"{name}.py"
        path.write_text(f"{PRELUDE}{IMPATIENT}{dead[name]}\n{ends.format(fault=fault)}")
        return job(2, path, limit=60)

    with ThreadPoolExecutor(3) as jobs:
        assert [done.status for done in jobs.map(run, dead)] == [1, 1, 1]


def test_J2_a_process_that_a_rank_forked_may_fail(run):
    program = """
if rank == 0:
    child = os.fork()
    if child == 0:
        raise ValueError("of the child")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
wait()
"""
    done = run(2, program)
    assert done.status == 0
    assert "ValueError: of the child" in done.err
    assert "ending the job" not in done.err


@pytest.mark.parametrize(("leave", "status"), [("sys.exit()", 1), ("os._exit(3)", 3), ("pass", 1)])
def test_J2_a_process_that_a_rank_forked_leaves(run, leave, status):
    """By sys.exit, at the end of the program or by os._exit: in none of these ways it waits for other ranks."""
    program = f"""
child = os.fork() if rank == 1 else -1
if child == 0:
    print("of the child")
    {leave}
else:
    if child > 0:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {status}
    wait()
"""
    done = run(2, program)
    assert done.status == 0, done.err
    assert ("it must end by os._exit(status)" in done.err) == (status == 1)
    assert status == 3 or "of the child" in done.out


@pytest.mark.mpi
def test_J10_communicators_that_are_dropped_are_freed(run):
    """MPICH has room for some 2,000. Also those that were split off others, or are in a cycle of references."""
    program = """
import numpy as np
for turn in range(1100):
    part = comm.split(rank % 2)
    part.split(0).agree(np.zeros(1, int))
    if turn % 3 == 0:
        cycle = [part]
        cycle.append(cycle)
for turn in range(2100):
    comm.split(0).free()
kept = []
try:
    for turn in range(2100): kept.append(comm.split(0))
except RuntimeError as error:
    assert "MPI has no room for another communicator" in str(error) and "call free()" in str(error)
    kept.clear()
wait()
"""
    # Ranks that spin while they wait took over 90 s beside other tests; alone it is 8 s.
    done = run(2, program, limit=240, MPIR_CVAR_ENABLE_HEAVY_YIELD="1")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("ranks", [1, with_each_mpi(2)])
def test_J8_calls_after_MPI_was_finalised(run, ranks):
    program = """
import atexit
from mpi4py import MPI
x = ms.arange(12, split=0)
used, unused, freed = comm.split(0), comm.split(0), comm.split(0)
never = ms.MPICommunication(MPI.COMM_WORLD)
used.allreduce(torch.ones(1))
freed.free()

def late():
    MPI.Finalize()
    calls = [
        lambda: comm.split(0),
        lambda: used.split(0),
        lambda: unused.free(),
        lambda: freed.split(0),
        lambda: ms.MPI_SELF.split(0),
        lambda: comm.mpi,
        lambda: never.mpi,
        lambda: ms.MPICommunication(MPI.COMM_WORLD),
        lambda: comm.abort(),
    ]
    if comm.size > 1:
        calls += [
            lambda: x.resplit(None),
            lambda: ms.vmap(torch.sin)(x),
            lambda: x.tolist(),
            lambda: comm.allreduce(torch.ones(1)),
            lambda: used.broadcast(torch.ones(1)),
            lambda: unused.scan(torch.ones(1)),
            lambda: never.broadcast_bytes(b""),
        ]
    for call in calls:
        try:
            call()
        except RuntimeError as error:
            assert "MPI was finalised" in str(error) or "was freed" in str(error), error
        else:
            os.write(2, f"line {call.__code__.co_firstlineno}: no error\\n".encode())
    # What needs no other rank still works.
    assert ms.zeros((3, 4), split=1).larray.sum() == 0
    assert "DNDarray" in repr(x) and str(rank) in repr(comm) and x.shape == (12,)
    os.write(1, b"done\\n")

atexit.register(late)
"""
    done = run(ranks, program)
    assert (done.status, done.out, done.err) == (0, "done\n" * ranks, "")
