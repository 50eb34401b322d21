"""The public names: listed once, documented, with examples that run on any number of ranks."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import minisplit as ms

MODULES = ["minisplit", *(m.name for m in pkgutil.walk_packages(ms.__path__, "minisplit."))]
SPACES = {"": ms, "random.": ms.random, "linalg.": ms.linalg, "fft.": ms.fft}
FUNCTIONS = {
    f"{space}{name}": x
    for space, module in SPACES.items()
    for name in module.__all__
    if inspect.isfunction(x := getattr(module, name))
}


def test_all_is_sorted_and_complete():
    public = {name for name, value in vars(ms).items() if not name.startswith("_") and not inspect.ismodule(value)}
    named = {name for name in ms.__all__ if not inspect.ismodule(getattr(ms, name))}
    assert named - public == {"__array_api_version__", "__array_namespace_info__"}
    assert public <= named
    assert len(set(ms.__all__)) == len(ms.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_if_it_is_collective_and_shows_an_example(name):
    doc = inspect.getdoc(FUNCTIONS[name]) or ""
    assert ">>>" in doc
    assert "ollective" in doc or "Local." in doc


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_in_the_documentation(name):
    docs = Path(ms.__file__).parent.parent / "docs"
    assert f"`{name}" in (docs / "api.md").read_text() + (docs / "operations.md").read_text()


@pytest.mark.mpi  # standard output is one for all threads
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed"


@pytest.mark.mpi
def test_an_example_that_is_wrong_would_be_seen():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1
