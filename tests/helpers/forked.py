"""Python that has imported torch already: one process imports it, and forks for each call of `python()`.

A job of two ranks takes 2.7 s of a core to start, most of it for importing torch, and so 0.8 s; the tests start
some 150 jobs. The process that is called hands on its arguments, environment, folder and open files, then signals,
and leaves with the status of the forked one. Where it is killed, so is the forked one. What differs from Python:
ranks have the same hashes of strings, and torch has read its environment variables before.
"""

from __future__ import annotations

import atexit
import builtins
import ctypes
import fcntl
import functools
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import types
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# By this variable, a UUID, `jobs.py` finds the processes of a job, in what the system shows of their environments.
MARK = "MINISPLIT_TEST_JOB"
# What is called as Python, and imports little. With options, or code to run, it becomes Python itself.
CALLED = """\
#!{python} -IS
import json, os, signal, socket, sys
arguments = sys.argv[1:]
if not arguments or (arguments[0].startswith("-") and arguments[0] != "-m"):
    os.execv({python!r}, [{python!r}, *arguments])
files = []
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        os.fstat(number)
        files.append(number)
    except OSError:
        pass  # by which the folder was listed
server = socket.socket(socket.AF_UNIX)
server.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "socket"))
words = [arguments, dict(os.environ), os.getcwd(), files, sys.argv[0]]
data = json.dumps(words).encode("utf-8", "surrogateescape")
socket.send_fds(server, [len(data).to_bytes(4, "little")], files)
server.sendall(data)
forked = int.from_bytes(server.recv(4), "little")
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), lambda number, frame: os.kill(forked, number))
for number in files:
    os.close(number)
status = int.from_bytes(server.recv(4), "little", signed=True)
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def python() -> str:
    """Start the process that forks, once, and return the path of what is called as Python; else Python's own."""
    if sys.platform != "linux":
        return sys.executable
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name, "python")
    path.write_text(CALLED.format(python=sys.executable))
    path.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, folder.name],
        env=os.environ | {"OMP_NUM_THREADS": "1", MARK: str(uuid.UUID(int=0))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )

    def end() -> None:
        server.communicate()
        folder.cleanup()

    atexit.register(end)
    assert server.stdout
    assert server.stdout.read(1)  # it has begun to listen
    return str(path)


class Call:
    """What was called: its arguments, and the rest of what a process is given."""

    def __init__(self, connection: socket.socket) -> None:
        size, self.received, _, _ = socket.recv_fds(connection, 4, 250)
        data = b""
        while size and len(data) < int.from_bytes(size, "little"):
            part = connection.recv(1 << 16)
            if not part:
                break
            data += part
        words = json.loads(data.decode("utf-8", "surrogateescape") or "null")
        self.arguments, self.environment, self.folder, self.files, self.python = words or [[], {}, "/", [], ""]

    def close(self) -> None:
        for file in self.received:
            os.close(file)

    def become(self) -> None:
        """Take over what the caller had."""
        # First out of the way: a number that one is to have may be another one's.
        apart = [fcntl.fcntl(file, fcntl.F_DUPFD, 500) for file in self.received]
        self.close()
        for file, number in zip(apart, self.files, strict=True):
            os.dup2(file, number)
            os.close(file)
        if MARK in self.environment:
            # The system shows the environment with which a process began: so that of the one that was forked from.
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_void_p
            mark = self.environment[MARK].encode()
            ctypes.memmove(getenv(MARK.encode()), mark, len(mark))
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.executable = self.python
        sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


class Running(NamedTuple):
    """A process that was forked, the file that tells of its end, and the connection to whoever called."""

    process: int
    end: int
    connection: socket.socket


def serve(folder: str) -> Call:
    """Fork for each call, and return there what was called. Where the tests end, end all of them."""
    import mpi4py
    import torch.distributed.elastic

    del mpi4py, torch
    gc.freeze()  # looking for garbage would write to the memory of all objects, and so copy it
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(folder, "socket"))
    listener.listen(64)
    selector = selectors.DefaultSelector()
    for file in (listener, sys.stdin):
        selector.register(file, selectors.EVENT_READ)
    os.write(1, b".")
    running: set[Running] = set()
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                for each in running:
                    os.kill(each.process, signal.SIGKILL)
                os._exit(0)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                call = Call(connection)
                process = os.fork() if call.arguments else None
                if process == 0:
                    for each in running:
                        each.connection.close()
                        os.close(each.end)
                    for opened in (connection, listener, selector):
                        opened.close()
                    return call
                call.close()
                if process is None:  # whoever called was killed before all was said
                    connection.close()
                    continue
                connection.send(process.to_bytes(4, "little"))
                each = Running(process, os.pidfd_open(process), connection)
                running.add(each)
                for opened in (each.end, connection):
                    selector.register(opened, selectors.EVENT_READ, each)
            elif key.data in running:
                each = key.data
                running.remove(each)
                if key.fileobj is each.connection:  # whoever called was killed
                    os.kill(each.process, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(each.process, 0)[1])
                with suppress(OSError):
                    each.connection.send(status.to_bytes(4, "little", signed=True))
                for opened in (each.end, each.connection):
                    selector.unregister(opened)
                os.close(each.end)
                each.connection.close()


def run(arguments: list[str]) -> None:
    """Run a program as Python does: `FILE ...` or `-m MODULE ...`."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    main.__file__ = arguments[0]
    sys.path.insert(0, os.path.dirname(os.path.realpath(arguments[0])))
    code = compile(Path(arguments[0]).read_bytes(), arguments[0], "exec")
    exec(code, main.__dict__)


if __name__ == "__main__":
    called = serve(sys.argv[1])
    called.become()
    run(called.arguments)
