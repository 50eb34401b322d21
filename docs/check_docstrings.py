"""Checks the docstrings of all public names: `python docs/check_docstrings.py`. Part of `dev.py lint`.

numpydoc validates their form. Beyond that, each public function has a section "Communication" and an example.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import communication_section
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import minisplit as ms

# What numpydoc asks for that we do without: a blank line before the closing quotes (GL02), an extended summary
# (ES01), a section See Also (SA01), and verbs that are not third person by their last letter (SS05).
WITHOUT = {"GL01", "GL02", "ES01", "SA01", "SA04", "SS05", "RT02"}
# Of methods that say where the rest is: "See `minisplit.sum`."
REFERRED = {"PR01", "RT01", "YD01", "EX01"}
SPACES = {"minisplit": ms, "minisplit.random": ms.random, "minisplit.linalg": ms.linalg, "minisplit.fft": ms.fft}
SPACES |= {"minisplit.nn.utils": ms.nn.utils, "minisplit.testing": ms.testing}


def public() -> Iterator[tuple[str, object]]:
    """Yield each public function and class once, and the public methods of the classes."""
    seen: set[int] = set()
    for space, module in SPACES.items():
        for name in module.__all__:
            thing = getattr(module, name)
            if id(thing) in seen or not (inspect.isfunction(thing) or inspect.isclass(thing)):
                continue
            seen.add(id(thing))
            yield f"{space}.{name}", thing
            if inspect.isclass(thing) and thing.__module__.startswith("minisplit"):
                for method, each in vars(thing).items():
                    if inspect.isfunction(each) and not method.startswith("_"):
                        yield f"{space}.{name}.{method}", each


def faults(name: str, thing: object) -> Iterator[str]:
    """Yield what is wrong with one docstring."""
    if inspect.isclass(thing) and not thing.__module__.startswith("minisplit"):
        return
    is_method = inspect.isfunction(thing) and "." in thing.__qualname__
    text = inspect.getdoc(thing) or ""
    without = set(WITHOUT)
    if is_method and ("See `" in text or "\n\n" not in text):
        without |= REFERRED
    if is_method or inspect.isclass(thing):
        without |= {"EX01"}
    if inspect.isclass(thing) and issubclass(thing, tuple | Exception):
        without |= {"PR01"}
    for code, message in validate(get_doc_object(thing))["errors"]:
        if code not in without:
            yield f"{code} {message}"
    if inspect.isfunction(thing) and not is_method:
        communication = communication_section.communication_of(thing)
        if not communication.startswith(("Local", "Collective")):
            yield 'no section Communication that begins with "Local" or "Collective"'


def main() -> int:
    communication_section.install()
    found = [f"{name}: {fault}" for name, thing in public() for fault in faults(name, thing)]
    print("\n".join(found))
    print(f"{len(found)} faults in the docstrings of {len(dict(public()))} public names")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
