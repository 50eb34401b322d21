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
    program = "import os, sys\nos.write(3, b'third')\n"
    program += "print(sys.argv[1:], sys.stdin.read(), os.environ['MINE'], 'HOME' in os.environ, os.getcwd())\n"
    program += "print('torch' in sys.modules, 'minisplit' in sys.modules, __name__, sys.path[0], file=sys.stderr)"
    reader, writer = os.pipe()
    os.dup2(writer, 3) if writer != 3 else None
    process = start(tmp_path, program, "a", "b c", env={"MINE": "1"}, cwd="/usr", pass_fds=(3,))
    out, err = process.communicate("said")
    assert (process.returncode, out) == (0, "['a', 'b c'] said 1 False /usr\n")
    assert err == f"True False __main__ {tmp_path}\n"
    assert os.read(reader, 9) == b"third"


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
    process.communicate()
    for _ in range(100):
        if not there.exists():
            return
        time.sleep(0.02)
    pytest.fail("it goes on")


def test_modules_and_code(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import sys\nprint(sys.argv[1:], 'torch' in sys.modules)")
    for arguments, said in [(("-m", "module", "a"), "['a'] True\n"), (("-c", "print(5)"), "5\n")]:
        done = subprocess.run(
            [forked.python(), *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == said
