"""The command line of `python -m minisplit`."""

from __future__ import annotations

import re
import sys

import pytest
from launchers import ROOT

from minisplit.launch import commands

pytestmark = [pytest.mark.serial, pytest.mark.mpi]


@pytest.mark.parametrize(
    ("said", "orig", "expected"),
    [
        (["-m", "info"], ["python", "-P", "-m", "minisplit", "info"], True),
        (["-m"], ["python", "-mminisplit"], True),
        (["-m"], ["python", "-m", "minisplit.testing.worker"], False),
        (["-m", "minisplit"], ["python", "-m", "pdb", "minisplit"], False),
        (["-m", "-m", "minisplit"], ["python", "-m", "pdb", "-m", "minisplit"], False),
        (["script.py", "minisplit"], ["python", "script.py", "minisplit"], False),
        ([], [], False),
    ],
)
def test_only_the_program_itself_ends_at_its_import(
    said: list[str], orig: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", said)
    monkeypatch.setattr(sys, "orig_argv", orig)
    assert commands.is_main_program() == expected


def test_the_commands_of_the_pages_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "docs" / "clusters.md"]
    text = "".join(page.read_text() for page in pages)
    lines = re.findall(r"^python -m minisplit (.*?) *(?:#.*)?$", text, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        chosen = commands.make_parser().parse_args(line.split())
        assert line.startswith(chosen.command)


def test_a_script_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["run", "nowhere.py"]) == 2
    assert capsys.readouterr().err == "minisplit: there is no script nowhere.py\n"
