"""Makes `minisplit/core/array_methods.py`, the methods of arrays that are functions: `python docs/methods.py`.

Each function of minisplit whose first argument is an array is a method of its name, and those that NumPy, PyTorch
or Heat know by another name of that name too. Those that compute element by element, and have `out=`, are also
methods that change the array, under torch's names, which end in `_`.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import minisplit as ms

FILE = Path(ms.__file__).with_name("core") / "array_methods.py"
# Functions of arrays that are no methods, or whose methods are written in the class: their arguments are others.
WITHOUT = {
    "astype", "diagonal", "flatten", "flip", "imag", "real", "repeat", "reshape", "roll", "show", "split", "tile",
    "transpose",
}  # fmt: skip
# Functions of `minisplit.linalg` that are methods of torch's tensor.
LINALG = ("cholesky", "det", "inv", "matrix_exp", "matrix_power", "pinv", "qr", "slogdet", "svd")
# Methods whose function has another name here. Most are torch's; `conjugate` is NumPy's, `fabs`, `invert` and
# `mod` are Heat's.
ALIASES = """
    absolute:abs amax:max amin:min arccos:acos arccosh:acosh arcsin:asin arcsinh:asinh arctan:atan arctan2:atan2
    arctanh:atanh bitwise_not:bitwise_invert bmm:matmul clamp:clip conjugate:conj div:divide eq:equal fabs:abs
    ge:greater_equal ger:outer gt:greater inverse:linalg.inv invert:bitwise_invert le:less_equal lt:less mm:matmul
    mod:remainder movedim:moveaxis mul:multiply mv:matmul ne:not_equal neg:negative pinverse:linalg.pinv
    repeat_interleave:repeat sgn:sign sub:subtract swapdims:swapaxes take_along_dim:take_along_axis
    tensor_split:array_split true_divide:divide unbind:unstack unsqueeze:expand_dims
"""
# What stands in signatures for types of the operations, which the array is below of.
TYPES = {
    "Axes": "int | Sequence[int]",
    "Edges": "Any",
    "EigResult": "tuple[DNDarray, DNDarray]",
    "Method": "str",
    "Mode": "str",
    "QRResult": "tuple[DNDarray, DNDarray]",
    "Quantiles": "DNDarray | Sequence[float] | float",
    "SVDResult": "tuple[DNDarray, DNDarray, DNDarray]",
    "SlogdetResult": "tuple[DNDarray, DNDarray]",
    "Table": "Any",
    "Tolerance": "DNDarray | float | None",
    "UniqueAll": "tuple[DNDarray, DNDarray, DNDarray, DNDarray]",
    "UniqueCounts": "tuple[DNDarray, DNDarray]",
    "UniqueInverse": "tuple[DNDarray, DNDarray]",
    "Where": "DNDarray | bool",
}
HEAD = '''"""The methods of arrays that are functions of minisplit: made by `docs/methods.py`, from these.

`DNDarray` has them from here. Those that are more than a call of a function stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from minisplit.core.pytorch.dtypes import Dtype

if TYPE_CHECKING:
    import torch

    from minisplit.core.array import Axis, DNDarray, Operand

# `minisplit.ops`, once the package is imported. See `minisplit.core.array.bind_operations`.
operations: Any = None


class TorchNames(TypedDict, total=False):
    """torch's names of `axis` and `keepdims`, which methods take as well."""

    dim: Any
    dims: Any
    keepdim: bool


def _read(name: str, others: Any, *more: Any, **own: Any) -> Any:
    """Return `axis`, and `keepdims` if the method has it, where they may have been given as torch has them."""
    found = dict(own)
    if more:
        # torch's second argument of these is not keepdim, but whether to correct the bias.
        if name in {"std", "var"} or len(more) > 1 or not isinstance(more[0], bool):
            example = "correction=1, keepdims=True" if name in {"std", "var"} else "dtype=..., keepdims=True"
            raise TypeError(f"{name}() takes other arguments than the axis by name: x.{name}(axis, {example})")
        found["keepdims"] = more[0]
    for key, value in others.items():
        ours = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}.get(key)
        if key == "unbiased":
            raise TypeError(f"{name}() has no argument 'unbiased': write correction={int(bool(value))}")
        if ours not in found:
            raise TypeError(f"{name}() has no argument {key!r}; see help(x.{name}): {', '.join(own)} ...")
        found[ours] = tuple(value) if isinstance(value, list) else value
    return tuple(found.values()) if len(found) > 1 else found["axis"]


class Casts:
    """The methods that are named as types are. Apart, since in the body of a class its names come first."""

    __slots__ = ()
'''
MIDDLE = '''

class DNDarrayMethods(Casts):
    """The methods of `DNDarray` that call a function of minisplit."""

    __slots__ = ()
'''
# torch's methods that cast, and the dtypes.
CASTS = {
    "bfloat16": "bfloat16",
    "bool": "bool",
    "byte": "uint8",
    "cdouble": "complex128",
    "cfloat": "complex64",
    "char": "int8",
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "int": "int32",
    "long": "int64",
    "short": "int16",
}
# Functions whose results are no numbers to change an array to.
NOT_IN_PLACE = {"conj", "equal", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "signbit"}


def page() -> str:
    """Return the text of the module, which ruff is to format."""
    return HEAD + "".join(casts()) + MIDDLE + "".join(methods())


def casts() -> Iterator[str]:
    """Yield the text of each method that casts."""
    for name, dtype in CASTS.items():
        yield (
            f"\n    def {name}(self) -> DNDarray:\n"
            f'        """Return the array as {dtype}, or itself where it is that. See `minisplit.astype`."""\n'
            f'        return operations.astype(self, "{dtype}", copy=False)\n'
        )


def methods() -> Iterator[str]:
    """Yield the text of each method."""
    for name, target in sorted(named().items()):
        function = getattr(ms.linalg, target[7:]) if target.startswith("linalg.") else getattr(ms, target)
        summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        yield method(name, target, function, "", summary)
        parameters = list(inspect.signature(function).parameters)
        if parameters[-2:] == ["out", "where"] and target not in NOT_IN_PLACE and "axis" not in parameters:
            given = ", ".join(["self", *parameters[1:-2]])
            summary = f"Change the array to `{target}({given})`; its dtype and layout stay."
            yield method(f"{name}_", target, function, "out=self", summary)


def named() -> dict[str, str]:
    """Return the names of all methods, with those of their functions."""
    found = {name: name for name in ms.ops.__all__ if name not in WITHOUT and is_of_array(getattr(ms, name))}
    found |= {name: f"linalg.{name}" for name in LINALG}
    pairs = [pair.split(":") for pair in ALIASES.split()]
    return found | dict(pairs)


def is_of_array(function: Any) -> bool:
    """Whether the first argument of a function is an array, of which it can be a method."""
    if not inspect.isfunction(function):
        return False
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.kind is first.VAR_POSITIONAL or first.name in {"condition", "type"}:
        return False
    return str(first.annotation).split(" | ")[0] in {"DNDarray", "Operand"}


def method(name: str, target: str, function: Callable[..., Any], changed: str, summary: str) -> str:
    """Return the text of one method. `changed` is the argument by which it changes the array."""
    signature = inspect.signature(function)
    own = list(signature.parameters.values())[1:]
    if changed:
        own = [each for each in own if each.name not in {"out", "where"}]
    if any(each.kind is each.POSITIONAL_ONLY for each in own):
        self_kind = inspect.Parameter.POSITIONAL_ONLY
    else:
        self_kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", self_kind), *own]
    shown = ", ".join(_declarations(parameters))
    passed = ", ".join(["self", *map(_passed, own), *([changed] if changed else [])])
    body, names = "", [each.name for each in own]
    if "axis" in names and not any(each.kind is each.VAR_KEYWORD for each in own):
        shown += ", **others: Unpack[TorchNames]"
        targets = ["axis", *(["keepdims"] if "keepdims" in names else [])]
        by_place = [each.name for each in own if each.kind is not each.KEYWORD_ONLY]
        if "keepdims" in names and by_place[-1] == "axis":
            # torch has keepdim there.
            shown = shown.replace(", *, ", ", *more: Any, ", 1)
            names.append("more")
        given = ", ".join([*(["*more"] if "more" in names else []), *(f"{each}={each}" for each in targets)])
        asked = "others or more" if "more" in names else "others"
        body = f"        if {asked}:\n            {', '.join(targets)} = _read({name!r}, others, {given})\n"
    returns = "Self" if changed else _type(str(signature.return_annotation))
    return (
        f"\n    def {name}({shown}) -> {returns}:\n"
        f'        """{_summary(summary, target)}"""\n'
        f"{body}        return operations.{target}({passed})\n"
    )


def _summary(summary: str, target: str) -> str:
    """Return the docstring of a method: the first sentence of its function, in one line, and its name."""
    see = f"See `minisplit.{target}`."
    line = f'        """{summary} {see}"""'
    return f"{summary} {see}" if len(line) <= 115 else f"{summary}\n\n        {see}\n        "


def _declarations(parameters: list[inspect.Parameter]) -> Iterator[str]:
    kinds = [each.kind for each in parameters]
    for place, each in enumerate(parameters):
        if each.kind is each.KEYWORD_ONLY and not {each.KEYWORD_ONLY, each.VAR_POSITIONAL} & set(kinds[:place]):
            yield "*"
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        annotation = "" if each.annotation is each.empty else f": {_type(str(each.annotation))}"
        default = "" if each.default is each.empty else f" = {each.default!r}"
        yield f"{stars}{each.name}{annotation}{default}"
        if each.kind is each.POSITIONAL_ONLY and each.kind not in kinds[place + 1 :]:
            yield "/"


def _passed(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind)
    if stars:
        return f"{stars}{parameter.name}"
    return f"{parameter.name}={parameter.name}" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name


def _type(annotation: str) -> str:
    return " | ".join(TYPES.get(each, each) for each in annotation.split(" | "))


if __name__ == "__main__":
    FILE.write_text(page())
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(FILE)], check=True)
    print(f"{FILE} has {len(named())} methods")
