"""What a job leaves behind where it is killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from launchers import run_command

pytestmark = [pytest.mark.serial, pytest.mark.jobs]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what processes share is seen on Linux only")
def test_J2_a_killed_job_leaves_no_shared_memory_and_no_folder(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, re, time\n"
        "import minisplit as ms\n"
        "text = open('/proc/self/maps').read()\n"
        "names = set(re.findall(r'/dev/shm/(?:mpich_shm_|sm_segment.)\\S+', text))\n"
        "print(*names, flush=True)\n"
        "time.sleep(3)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = run_command("run", "-n", "2", str(script), TMPDIR=str(tmp_path))
    assert done.returncode not in {0, None}
    names = [name for name in done.stdout.split() if name.startswith("/dev/shm/")]
    limit = time.monotonic() + 10
    while time.monotonic() < limit and (
        any(map(Path.exists, map(Path, names))) or list(tmp_path.glob("minisplit-run-*"))
    ):
        time.sleep(0.1)
    assert names
    assert not any(Path(name).exists() for name in names)
    assert not list(tmp_path.glob("minisplit-run-*"))
