"""The examples of the pages in docs, done as they say."""

from __future__ import annotations

import ast
import importlib
import io
import operator
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import minisplit as ms
from minisplit.testing import assert_close, run

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "testing.md").read_text()
FILES = dict(re.findall(r"^`([\w/]+\.\w+)`:.*?\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
# Pages whose code runs, and on how many ranks.
PAGES = {
    "collectives.md": 1,
    "coming-from.md": 4,
    "files.md": 4,
    "gpus.md": 4,
    "gradients.md": 4,
    "how-do-i.md": 4,
    "index.md": 4,
    "layouts.md": 4,
    "memory.md": 4,
    "plans.md": 4,
    "profiling.md": 4,
    "training.md": 4,
    "tutorial.md": 4,
    "vmap.md": 4,
    "why.md": 4,
}
TESTED_ELSEWHERE = {"design.md", "from-heat.md", "random.md", "testing.md"}
pytestmark = pytest.mark.serial


def test_the_first_property_is_that_of_the_readme_and_holds() -> None:
    [first] = re.findall(r"```py\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)
    assert f"```python\n{first}```" in PAGE
    names: dict[str, Any] = {"__name__": __name__}
    exec(first, names)
    names["test_a_round_trip_changes_nothing"]()


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_prints_what_it_shows(page: str) -> None:
    """Shown is what rank 0 prints; on the other ranks `print` does nothing."""
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", (DOCS / page).read_text(), re.DOTALL)
    assert blocks
    end = "(end of a block)\n"

    def body() -> None:
        comm = ms.get_comm()
        names: dict[str, Any] = {"print": print if comm.rank == 0 else lambda *_: None}
        for code, _ in blocks:
            exec(code, names)
            comm.agree(np.zeros(1, dtype=np.int64))
            if comm.rank == 0:
                print(end, end="")

    with ms.random.fork(0), redirect_stdout(io.StringIO()) as printed:
        run(body, ranks=PAGES[page])
    for (code, expected), shown in zip(blocks, printed.getvalue().split(end), strict=False):
        assert shown == expected, code


def test_the_codes_in_names_of_tests_are_explained() -> None:
    rows = re.findall(r"^\| ([A-Z]\d+) \|", (DOCS / "faults.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    files = [path.read_text() for path in Path(__file__).parent.rglob("test_*.py")]
    used = {code for text in files for code in re.findall(r"^def test_([A-Z]\d+)_", text, re.MULTILINE)}
    assert used == set(rows)


def test_every_module_has_a_test_file_or_says_where_it_is_tested() -> None:
    package = DOCS.parent / "minisplit"
    for path in package.rglob("*.py"):
        place = path.relative_to(package)
        own = Path(__file__).parent / place.with_name(f"test_{path.name}")
        if path.name.startswith("__") or own.exists():
            continue
        named = re.findall(r"tests/[\w/]+\.py", path.read_text())
        assert named, f"{place} has no {own.name}, and does not say where it is tested"
        assert all((DOCS.parent / each).exists() for each in named), f"{place} names a test file that is not there"


def test_every_page_with_code_is_tested() -> None:
    with_code = {path.name for path in DOCS.glob("*.md") if "```python" in path.read_text()}
    assert with_code - set(PAGES) <= TESTED_ELSEWHERE


def rows(page: str, table: str) -> list[tuple[str, str]]:
    """The first piece of code in each of the two columns of a table, found by its left heading."""
    text = (DOCS / page).read_text()
    [table] = re.findall(rf"^\| {table} \| minisplit \|\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return re.findall(r"^\| (?:`(.*?)`.*?) \| (?:`(.*?)`|none).* \|$", table, re.MULTILINE)


@pytest.mark.parametrize("other", ["NumPy", "PyTorch", "DTensor", "JAX", "Heat"])
def test_what_you_write_here_does_what_you_write_there(other: str) -> None:
    """On 4 ranks; what is written there is run where it is NumPy or plain PyTorch."""
    [setting] = re.findall(r"```python\n(.*?)```", (DOCS / "coming-from.md").read_text(), re.DOTALL)
    table = rows("coming-from.md", other)
    assert len(table) > 6

    def body() -> None:
        for there, here in table:
            names: dict[str, Any] = {}
            exec(setting, names)
            if other in {"NumPy", "PyTorch"}:
                result = eval(here, names)
                assert_close(result if isinstance(result, ms.DNDarray) else ms.asarray(result), eval(there, names))
            elif here:
                exec(here, names)

    run(body, ranks=4)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module that helps to build the site."""
    monkeypatch.syspath_prepend(DOCS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == DOCS:
            del sys.modules[name]


def test_every_public_name_is_on_one_page_of_the_reference(
    tool: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    reference = tool("reference")
    reference.write(tmp_path)
    pages = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    assert "   linalg.qr\n" in pages["linalg"]
    names = re.findall(r"^   ([A-Za-z_][\w.]*)$", "\n".join(pages[name] for name in reference.PAGES), re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == {name for name, _ in reference.public_names()}


def test_numpydoc_shows_the_section_on_communication(tool: Callable[[str], ModuleType]) -> None:
    section = tool("communication_section")
    section.install()
    section.install()  # a second time changes nothing
    from numpydoc.docscrape_sphinx import get_doc_object

    def call() -> None:
        """Do it.

        Communication
        -------------
        Collective: one
        allreduce.
        """

    assert section.communication_of(call) == "Collective: one allreduce."
    assert ".. rubric:: Communication\n\nCollective: one" in str(get_doc_object(call))


def test_the_page_of_all_operations_is_up_to_date(tool: Callable[[str], ModuleType]) -> None:
    assert (DOCS / "operations.md").read_text() == tool("operations").page(), "run: python docs/operations.py"


def test_the_house_in_the_design_is_the_one_that_stands(tool: Callable[[str], ModuleType]) -> None:
    house = tool("house")
    text = (DOCS / "design.md").read_text()
    assert text.count("collectives.py ") == 1
    assert text == house.page(), "run: python docs/house.py"


def test_figures_are_those_that_their_code_draws(tool: Callable[[str], ModuleType], tmp_path: Path) -> None:
    tool("figures").main(tmp_path)
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in (DOCS / "figures").iterdir()}, (
        "run: python docs/figures.py"
    )
    shown = {name for page in DOCS.glob("*.md") for name in re.findall(r"\(figures/(.*?)\)", page.read_text())}
    assert shown == set(drawn)


def test_programs_of_heat_become_programs_of_minisplit_by_the_table_alone(
    tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They print what Heat 1.8.0 prints on 1 and 3 ranks."""
    from_heat = tool("from_heat")
    text = (DOCS / "from-heat.md").read_text()
    assert text == from_heat.page(), "run: python docs/from_heat.py"
    for name in {name for _, new in from_heat.rules() for name in re.findall(r"\bht\.([\w.]+)", ast.unparse(new))}:
        assert operator.attrgetter(name)(ms) is not None, name
    programs = [found[3] for found in from_heat.PAIRS.finditer(text)]
    expected = re.findall(r"^Both print\n\n```\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert len(programs) == len(expected) == 3
    monkeypatch.setattr(sys, "argv", ["program.py", str(tmp_path)])
    for ranks in (1, 3):
        for program, output in zip(programs, expected, strict=True):
            with redirect_stdout(io.StringIO()) as printed:
                run(lambda code: exec(code, {}), program, ranks=ranks)
            assert printed.getvalue() == output


def test_what_differs_from_heat_is_as_the_page_says(
    tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 3 ranks: here, and by what the page says for what Heat gives."""
    text = (DOCS / "from-heat.md").read_text()
    [setting] = re.findall(r"^```python\n(x = .*?)```", text, re.DOTALL | re.MULTILINE)
    table = re.findall(
        r"^\| `(.*?)` \| `(.*?)` \| `(.*?)` \| (?:`(.*?)`|(the table|none)) \|$", text, re.MULTILINE
    )
    assert len(table) > 40
    convert = tool("from_heat").convert
    monkeypatch.chdir(tmp_path)

    def evaluate(code: str) -> str:
        names: dict[str, Any] = {"ht": ms}
        *before, last = code.split("; ")
        exec("\n".join([setting, *before]), names)
        return shown(eval(last, names))

    def body() -> None:
        ms.save(ms.ones((4, 2), split=0), "t.h5", "data")
        ms.save(ms.ones((4, 2), split=0), "t.csv")
        for code, there, here, written, by in table:
            assert evaluate(code) == here != there, code
            if by != "none":
                remedy = written or "; ".join(convert("\n".join(code.split("; "))).splitlines())
                assert evaluate(remedy) == there, remedy

    run(body, ranks=3)


def shown(value: object) -> str:
    """A value as the page shows it: dtypes by their names, numbers with two decimals."""
    if isinstance(value, ms.DNDarray):
        numbers = value.numpy()
        if numbers.dtype.kind in "fc":
            numbers = numbers.astype(np.result_type(numbers, np.float64)).round(2)
        return f"{shown(value.dtype)} {numbers.tolist()}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(str, value) if isinstance(value[0], int | tuple) else map(shown, value))})"
    return str(round(value, 2) if isinstance(value, float) else value).removeprefix("torch.")


def run_tests(folder: Path, ranks_are: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # With a seed: what Hypothesis shrinks a failure to may depend on where it began.
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"],
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
    assert len(code) == 3
    names: dict[str, Any] = {"__name__": __name__}
    with ms.random.fork():
        exec("\n".join(code), names)
    assert names["state"] == (7, 0, 2)


def test_the_texts_of_troubleshooting_are_those_of_the_errors() -> None:
    """What stands in the first column as code, up to what differs from case to case."""
    sources = "\n".join(path.read_text() for path in (DOCS.parent / "minisplit").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*[fr]*"', "", sources)  # strings that go on in the next line
    cells = re.findall(r"^\| (`.*?) \| ", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(cells) > 25
    for text in (text for cell in cells for text in re.findall(r"`([^`]+)`", cell)):
        pieces = [piece.strip(" ,:;()") for piece in text.split("...")]
        assert all(piece in sources for piece in pieces if len(piece) > 3), text
