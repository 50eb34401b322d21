"""Ranks in a notebook, and the notebook of the examples: executed as a user does, and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "notebook.ipynb"
pytestmark = [
    pytest.mark.serial,
    pytest.mark.jobs,
    # What the packages of notebooks say of their own future.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written into the home of who runs the tests."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def shell() -> Any:
    # Here, as every rank of a job collects this file.
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell(colors="nocolor")
    shell.run_line_magic("load_ext", "minisplit.notebook")
    return shell


def test_a_cell_runs_on_each_rank(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("import minisplit as ms\nn = 5")
    capsys.readouterr()
    # The ranks take turns at each message: what one assigns, another must not see.
    cell = "mine = ms.get_comm().rank\ntotal = ms.arange(n, split=0).sum().item()\n(mine, total)"
    assert shell.run_cell(f"%%ranks 3\n{cell}").success
    assert capsys.readouterr().out == "".join(f"rank {rank}: ({rank}, 10)\n" for rank in range(3))
    assert "mine" not in shell.user_ns


def test_a_cell_has_its_own_future(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_cell("%%ranks 1\ndef f(x: int): ...\nf.__annotations__['x']").success
    assert capsys.readouterr().out == "rank 0: <class 'int'>\n"


def test_a_cell_without_a_value_shows_none(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_cell("%%ranks 2\nx = 1").success
    assert shell.run_cell("%%ranks 2\nNone").success
    assert capsys.readouterr().out == ""


def test_errors_of_a_cell_show_its_line(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    done = shell.run_cell("%%ranks 2\nimport minisplit as ms\nassert ms.get_comm().rank == 0, 'the second'")
    assert isinstance(done.error_in_exec, AssertionError)
    assert "ms.get_comm().rank == 0, 'the second'" in capsys.readouterr().out
    for line in ("", "four", "0 1"):
        done = shell.run_cell(f"%%ranks {line}\n1")
        assert "%%ranks takes the number of ranks, and nothing else" in str(done.error_in_exec)


def shown(cell: Any) -> str:
    """What a cell has printed and displayed, as text."""
    return "".join(output.get("text") or str(output.get("data", "")) for output in cell.outputs)


def test_the_notebook_of_the_examples() -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    texts = [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert texts[1].splitlines()[::3] == ["rank 0: tensor([0, 1, 2])", "rank 3: tensor([8, 9])"]
    assert "rank 3: (3, (10,), (2,), (3, 3, 2, 2), 45)" in texts[2]
    assert "112 B moved, 2 collective calls" in texts[5]
    assert "image/png" in texts[5]
    assert texts[6].count("'rank 3 of 4 failed while mapping sample 6 of 8:'") == 4
    ranks = re.findall(r"<MPICommunication rank (\d) of 2>, \(500, 3\), True", texts[8])
    assert sorted(ranks) == ["0", "1"]
