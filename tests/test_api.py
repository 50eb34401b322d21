"""The public names: listed once, documented, with examples that run on any number of ranks."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import minisplit as ms

MODULES = ["minisplit", *(m.name for m in pkgutil.walk_packages(ms.__path__, "minisplit."))]
# What imports MPI's engine, and what makes the process group of a program, of one process, in its examples.
NOT_ON_TORCH = (
    "minisplit.core.communication.mpi",
    "minisplit.core.communication.protocol",
    "minisplit.core.communication.torch_distributed",
    "minisplit.ops.dtensor",
    "minisplit.testing.worker",
)
WITH_EXAMPLES = [
    pytest.param(name, marks=[pytest.mark.mpi] * name.startswith(NOT_ON_TORCH), id=name) for name in MODULES
]
SPACES = {"": ms, "random.": ms.random, "linalg.": ms.linalg, "fft.": ms.fft, "nn.utils.": ms.nn.utils}
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


@pytest.mark.serial
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_shows_its_name_parameters_and_docstring(name: str) -> None:
    function = FUNCTIONS[name]
    assert function.__name__ == name.rpartition(".")[2]
    # The code of the function itself, not of a maker: tracebacks then name the operation.
    assert function.__code__.co_name == function.__name__
    assert "operation" not in inspect.signature(function).parameters
    doc = inspect.getdoc(function) or ""
    assert ">>>" in doc
    assert "\nCommunication\n-------------\n" in doc


CLASSES = [each for each in ms.DNDarray.__mro__ if each.__module__.startswith("minisplit.")]
METHODS = [name for each in CLASSES for name in vars(each) if name == "__add__" or not name.startswith("_")]
SHOWN = [*(f"ms.{name}" for name in FUNCTIONS), *(f"x.{name}" for name in METHODS)]


@pytest.mark.serial
def test_an_editor_shows_every_public_name() -> None:
    """jedi reads the code without running it, and finds each function and method with its docstring."""
    import jedi  # which the oldest packages are tested without

    unknown = []
    for name in SHOWN:
        # A script for each: jedi bounds what it infers in one.
        script = jedi.Script(f"import minisplit as ms\nx = ms.ones(3, split=0)\n{name}")
        found = script.help(3, len(name))
        last = name.rpartition(".")[2]
        # Of a property jedi shows the text alone.
        signed = not isinstance(getattr(ms.DNDarray, last, None), property)
        texts = [each.docstring() for each in found if each.name == last]
        if not any(len(text) > 10 and (f"{last}(" in text or not signed) for text in texts):
            unknown.append(name)
    assert not unknown


@pytest.mark.serial
def test_methods_are_written_in_classes() -> None:
    for each in CLASSES:
        for name, method in vars(each).items():
            function = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
            if inspect.isfunction(function):
                assert function.__qualname__ == f"{each.__name__}.{name}"
                assert function.__module__ == each.__module__
                assert function.__doc__ or name.startswith("_")


@pytest.mark.serial
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_in_the_documentation(name):
    docs = Path(ms.__file__).parent.parent / "docs"
    assert f"`{name}" in (docs / "operations.md").read_text()


@pytest.mark.processes  # standard output is one for all threads
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed"


@pytest.mark.processes
def test_an_example_that_is_wrong_would_be_seen():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1
