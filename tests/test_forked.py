"""Python that is forked, with which tests start jobs, does what Python does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from jobs import job

pytestmark = [
    pytest.mark.serial,
    pytest.mark.jobs,
    pytest.mark.skipif(sys.platform != "linux", reason="Python itself is called there"),
]


def start(tmp_path: Path, program: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    (tmp_path / "program.py").write_text(program)
    command = [forked.python(), str(tmp_path / "program.py"), *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, **pipes, **options)  # type: ignore[call-overload, no-any-return]


def test_what_it_is_given(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    program = f"import os, sys\nos.write({writer}, b'by a pipe')\n"
    program += "print(sys.argv[1:], sys.stdin.read(), os.environ['MINE'], 'HOME' in os.environ, os.getcwd())\n"
    program += "print('torch' in sys.modules, 'minisplit' in sys.modules, __name__, sys.path[0], file=sys.stderr)"
    process = start(tmp_path, program, "a", "b c", env={"MINE": "1"}, cwd="/usr", pass_fds=(writer,))
    os.close(writer)
    out, err = process.communicate("said")
    assert (process.returncode, out) == (0, "['a', 'b c'] said 1 False /usr\n")
    assert err == f"True False __main__ {tmp_path}\n"
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"by a pipe"  # and then its end: no other process has it open


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import os; os._exit(4)", 4, ""),
        ("exit('words')", 1, "words\n"),
        ("import atexit\natexit.register(print, 'late')\nraise ValueError('spilled')", 1, "ValueError: spilled\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os; os.abort()", -6, ""),
    ],
)
def test_how_it_ends(tmp_path: Path, program: str, status: int, words: str) -> None:
    process = start(tmp_path, program)
    out, err = process.communicate()
    assert process.returncode == status
    assert err.endswith(words)
    assert out == ("late\n" if "late" in program else "")


def test_signals_are_passed_on(tmp_path: Path) -> None:
    process = start(tmp_path, "import time\nprint('ready', flush=True)\ntime.sleep(60)")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert err.endswith("KeyboardInterrupt\n")


def test_it_ends_with_the_one_that_was_called(tmp_path: Path) -> None:
    process = start(tmp_path, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    assert process.stdout
    there = Path("/proc", process.stdout.readline().strip())
    assert there.exists()
    process.kill()
    process.wait()
    ends = time.monotonic() + 5
    while there.exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    process.communicate()


def test_modules_and_code(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import sys\nprint(sys.argv[1:], 'torch' in sys.modules)")
    for arguments, said in [(("-m", "module", "a"), "['a'] True\n"), (("-c", "print(5)"), "5\n")]:
        done = subprocess.run(
            [forked.python(), *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == said


@pytest.mark.parametrize("anew", [False, True])
def test_what_a_rank_forks_and_leaves_behind_is_found(tmp_path: Path, anew: bool) -> None:
    program = "import os, time\nif os.fork() == 0:\n    os.closerange(0, 99)\n    time.sleep(60)"
    (tmp_path / "program.py").write_text(program)
    with pytest.raises(AssertionError, match="left processes behind"):
        job(1, tmp_path / "program.py", anew=anew)
