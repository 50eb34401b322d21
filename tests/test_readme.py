"""The README's code prints what the README says, and its commands are those of dev.py."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import dev
import minisplit as ms

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```.*?```\n(.*?)```", README, re.DOTALL)


@pytest.mark.processes
def test_its_code_prints_what_it_says():
    assert len(EXAMPLES) == 4
    names = {}
    for code, expected in EXAMPLES:
        shown = io.StringIO()
        with redirect_stdout(shown):
            exec(code, names)
        if ms.MPI_WORLD.size != 4:
            continue
        assert shown.getvalue() == (expected if ms.MPI_WORLD.rank == 0 else "")


@pytest.mark.serial
def test_its_commands_exist():
    commands = re.findall(r"dev\.py (\w+)", README)
    assert commands
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            dev.parse([command, "--help"])
        assert ended.value.code == 0
