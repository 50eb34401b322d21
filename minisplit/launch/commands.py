"""The command line of `python -m minisplit`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from minisplit.launch import info, jobs, selftest


def is_main_program() -> bool:
    """Whether Python is about to run this package: `python -m minisplit`, with any options of Python."""
    # Until Python has found the module, "-m" stands for its name in sys.argv. The rest is the same in both lists.
    return sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in {"minisplit", "-mminisplit"}


def main(arguments: Sequence[str]) -> int:
    """Run a command of `python -m minisplit`.

    Parameters
    ----------
    arguments : sequence of str
        The arguments after `minisplit`.

    Returns
    -------
    int
        The exit status. `run` does not return: the launcher takes the place of this process.
    """
    chosen = make_parser().parse_args(arguments)
    try:
        if chosen.command == "info":
            return info.info(chosen.n, chosen.mpi, chosen.engine)
        if chosen.command == "selftest":
            return selftest.selftest(jobs.find_launcher(chosen.mpi, engine=chosen.engine), chosen.n or [1, 2, 4])
        if not chosen.module and not Path(chosen.script).is_file():
            sys.stderr.write(f"minisplit: there is no script {chosen.script}\n")
            return 2
        # Last: to find a launcher other programs are started, for which a wrong name of a script need not wait.
        launcher = jobs.find_launcher(chosen.mpi, chosen.n, chosen.engine)
        program = [*["-m"] * chosen.module, chosen.script, *chosen.arguments]
        jobs.exec_job(launcher, chosen.n, chosen.threads, program)
    except jobs.LauncherError as error:
        sys.stderr.write(f"minisplit: {error}\n`python -m minisplit info` shows what there is.\n")
    except KeyboardInterrupt:
        sys.stderr.write("\nminisplit: interrupted\n")
    return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m minisplit", description="Start jobs, and see what they need.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="versions, MPI, cores, GPUs, and what is missing")
    run = commands.add_parser("run", help="run a script on several ranks")
    selftest = commands.add_parser("selftest", help="small jobs that check whether all works here")
    info.add_argument("-n", type=positive, default=2, metavar="RANKS", help="of the job to ask; default: 2")
    run.add_argument("-n", type=positive, default=4, metavar="RANKS", help="default: 4")
    selftest.add_argument("-n", type=positive, action="append", metavar="RANKS", help="default: 1, 2 and 4")
    run.add_argument("--threads", type=positive, help="threads of each rank; default: its share of the cores")
    for command in (info, run, selftest):
        command.add_argument(
            "--engine", choices=("mpi", "torch"), help="what carries messages; default: mpi if there is a library"
        )
        command.add_argument("--mpi", metavar="PATH", help="a launcher, or the folder of an MPI with bin and lib")
    run.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module")
    run.add_argument("script", metavar="SCRIPT")
    # REMAINDER: options behind the script are its own, also -n and --help.
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")
    return parser


def positive(text: str) -> int:
    """Convert the text of an argument to a number of ranks or threads."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)
