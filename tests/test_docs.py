"""The examples of the pages in docs, done as they say."""

from __future__ import annotations

import io
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minisplit as ms
from minisplit.testing import run

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "testing.md").read_text()
FILES = dict(re.findall(r"^`([\w/]+\.\w+)`:.*?\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
pytestmark = pytest.mark.serial


def test_the_first_property_is_that_of_the_readme_and_holds() -> None:
    [first] = re.findall(r"```py\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)
    assert f"```python\n{first}```" in PAGE
    names: dict[str, Any] = {"__name__": __name__}
    exec(first, names)
    names["test_a_round_trip_changes_nothing"]()


@pytest.mark.parametrize("page", ["vmap.md", "files.md"])
def test_the_code_of_a_page_prints_what_it_shows_on_4_ranks(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) > 3
    end = "(end of a block)\n"

    def body() -> None:
        names: dict[str, Any] = {}
        for code, _ in blocks:
            exec(code, names)
            ms.get_comm().agree(np.zeros(1, dtype=np.int64))
            if ms.get_comm().rank == 0:
                print(end, end="")

    with redirect_stdout(io.StringIO()) as printed:
        run(body, ranks=4)
    for (code, expected), shown in zip(blocks, printed.getvalue().split(end), strict=False):
        assert shown == expected, code


def test_the_page_of_all_operations_is_up_to_date() -> None:
    names = runpy.run_path(str(DOCS / "operations.py"))
    assert (DOCS / "operations.md").read_text() == names["page"](), "run: python docs/operations.py"


def run_tests(folder: Path, ranks_are: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | {"MINISPLIT_TESTING": ranks_are},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert set(FILES) == {"pyproject.toml", "sums/__init__.py", "tests/conftest.py", "tests/test_sums.py"}
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("ranks_are", ["threads", "pool"])
def test_the_example_passes(project: Path, ranks_are: str) -> None:
    done = run_tests(project, ranks_are)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_mistake_is_found_as_the_page_shows_it(project: Path) -> None:
    right, wrong = "return ms.array(x.comm.allreduce(mine), comm=x.comm)", "return ms.array(mine)"
    code = project / "sums" / "__init__.py"
    assert right in code.read_text()
    code.write_text(code.read_text().replace(right, wrong))
    done = run_tests(project, "threads")
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    [shown] = re.findall(r"^ +(test_total\.alone\(.*)$", PAGE, re.MULTILINE)
    # Of two axes either may be the one.
    assert shown in re.sub(r"(split|axis)=1", r"\1=0", done.stdout)


def test_the_code_about_random_numbers_runs() -> None:
    code = re.findall(
        r"```python\n(.*?)```", (Path(__file__).parent.parent / "docs" / "random.md").read_text(), re.DOTALL
    )
    assert len(code) == 2
    names: dict[str, Any] = {"__name__": __name__}
    with ms.random.fork():
        exec("\n".join(code), names)
    assert names["state"] == (7, 0, 2)
