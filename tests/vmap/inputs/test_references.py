"""What a function refers to, however it comes by it."""

from __future__ import annotations

import functools
import types
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import minisplit as ms
from minisplit.vmap.inputs import references
from minisplit.vmap.inputs.references import (
    MOST_OBJECTS,
    find_captured,
    find_references,
    find_tensors_at_once,
    fingerprint,
    is_library,
    names_in_reach,
)

Function = Callable[[torch.Tensor], torch.Tensor]
# These are globals of the functions made below, not of this module, which ranks that are threads have in common.
settings: Any = None
W: Any = None
helper: Any = None


@dataclass
class Slots:
    __slots__ = ("weight",)
    weight: torch.Tensor


class Model:
    """A callable object; its methods reach tensors by attributes, properties and other methods."""

    def __init__(self, w: torch.Tensor) -> None:
        self.parts = {"w": [w]}

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        return self.scale(v)

    def scale(self, v: torch.Tensor) -> torch.Tensor:
        return v * self.parts["w"][0]


class Layer(torch.nn.Module):
    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        if isinstance(w, torch.nn.Parameter):
            self.w = w
        else:
            self.register_buffer("w", w)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * self.w


def by_default(w: torch.Tensor) -> Function:
    def func(v: torch.Tensor, w: torch.Tensor = w) -> torch.Tensor:
        return v * w

    return func


def by_keyword_default(w: torch.Tensor) -> Function:
    def func(v: torch.Tensor, *, w: torch.Tensor = w) -> torch.Tensor:
        return v * w

    return func


def by_closures(w: torch.Tensor) -> Function:
    def inner(v: torch.Tensor) -> torch.Tensor:
        return torch.func.vmap(lambda u: u * 1)(v) * w

    def outer(v: torch.Tensor) -> torch.Tensor:
        return inner(v)

    return outer


def by_global(w: torch.Tensor) -> Function:
    return types.FunctionType((lambda v: v * W).__code__, {"W": w})


def by_helper(w: torch.Tensor) -> Function:
    """A global function that has a global of its own."""
    return types.FunctionType((lambda v: helper(v) + 0).__code__, {"helper": by_global(w)})


def by_module_attribute(w: torch.Tensor) -> Function:
    module = types.ModuleType("settings_of_a_user")
    module.weight = w  # type: ignore[attr-defined]
    return types.FunctionType((lambda v: v * settings.weight).__code__, {"settings": module})


def by_wrapper(w: torch.Tensor) -> Function:
    func = by_closures(w)

    @functools.wraps(func)
    def wrapped(*args: Any) -> torch.Tensor:
        return func(*args)

    return wrapped


def by_cycle(w: torch.Tensor) -> Function:
    box: list[Any] = [w]
    box.append(box)
    return lambda v: v * box[1][0]


def by_class(w: torch.Tensor) -> Function:
    class Holder:
        weight = w

        @staticmethod
        def scale(v: torch.Tensor) -> torch.Tensor:
            return v * Holder.weight

    return Holder.scale


def by_object(x: Any, func: Callable[[Any, torch.Tensor], torch.Tensor]) -> Function:
    return lambda v: func(x, v)


def with_attribute(w: torch.Tensor) -> torch.nn.Module:
    net = Layer(torch.ones(3))
    net.held = [w]  # type: ignore[assignment]
    return net


WAYS: dict[str, Callable[[torch.Tensor], Function]] = {
    "closure": lambda w: lambda v: v * w,
    "closures": by_closures,
    "global": by_global,
    "helper": by_helper,
    "module of the user": by_module_attribute,
    "default": by_default,
    "keyword default": by_keyword_default,
    "partial": lambda w: functools.partial(torch.mul, w),
    "partial by keyword": lambda w: functools.partial(lambda v, w: v * w, w=w),
    "bound method": lambda w: Model(w).scale,
    "method of a tensor": lambda w: w.mul,
    "callable object": Model,
    "slots": lambda w: functools.partial(lambda held, v: v * held.weight, Slots(w)),
    "wrapper": by_wrapper,
    "dict": lambda w: lambda v, held={"a": {"b": w}}: v * held["a"]["b"],
    "list": lambda w: lambda v, held=[[w]]: v * held[0][0],
    "deque": lambda w: lambda v, held=deque([w]): v * held[0],
    "cycle": by_cycle,
    "class": by_class,
    "module": Layer,
    "module in a closure": lambda w: by_object(Layer(w), lambda net, v: net(v)),
    "nested modules": lambda w: torch.nn.Sequential(torch.nn.Identity(), torch.nn.ModuleList([Layer(w)])[0]),
    "attribute of a module": lambda w: by_object(with_attribute(w), lambda net, v: net(v) * net.held[0]),
    "replicated array": lambda w: by_object(ms.asarray(w), lambda x, v: v * x.larray),
    "torch.func": lambda w: torch.func.grad(lambda v: (v * w).sum()),
    "compiled": lambda w: torch.compile(lambda v: v * w, backend="eager"),
}


@pytest.mark.serial
@pytest.mark.parametrize("way", WAYS)
def test_finds_a_tensor(way: str) -> None:
    w = torch.full((3,), 2.0)
    func = WAYS[way](w)
    for found in (find_captured(func), find_tensors_at_once(func)):
        assert found is None or w.data_ptr() in {x.data_ptr() for x in found}


# torch itself silences this warning while it compiles, which two threads at a time undo for each other.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("way", WAYS)
def test_V27_gradient_of_a_captured_tensor(size: int, way: str) -> None:
    """The whole gradient on every rank, also on those without samples."""
    w = torch.nn.Parameter(torch.full((3,), 2.0))
    x = ms.array(torch.arange(12.0).reshape(4, 3), split=0).redistribute([4] + [0] * (size - 1))
    (y,) = ms.vmap(WAYS[way](w))(x)
    y.sum().larray.backward()
    assert w.grad is not None
    expected = [4.0] * 3 if way == "torch.func" else [18.0, 22.0, 26.0]
    assert w.grad.tolist() == expected
    # The second call has other values: nothing of the first one may be used again.
    with torch.no_grad():
        w += 1
    w.grad = None
    (y,) = ms.vmap(WAYS[way](w))(x * 2)
    (y**2).sum().larray.backward()
    whole = torch.arange(12.0).reshape(4, 3) * 2
    v = torch.full((3,), 3.0, requires_grad=True)
    (torch.vmap(WAYS[way](v))(whole) ** 2).sum().backward()
    assert torch.allclose(w.grad, v.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [way for way in WAYS if way not in {"torch.func", "compiled"}])
@pytest.mark.parametrize("chunk_size", [None, 1])
def test_V26_state_that_is_changed(raises_alike: Any, way: str, chunk_size: int | None, size: int) -> None:
    w = torch.full((3,), 2.0)
    func = WAYS[way](w)
    unseen = weakref.ref(w)  # which is not followed, so that the tensor is found in one of the ways alone

    def changing(v: torch.Tensor) -> torch.Tensor:
        y = func(v)
        unseen().add_(1)  # type: ignore[union-attr]
        return y

    with raises_alike(RuntimeError, "in place"):
        ms.vmap(changing, chunk_size=chunk_size)(ms.ones((4 * size, 3), split=0))


class Base:
    weight: Any = None

    def scale(self, v: torch.Tensor) -> torch.Tensor:
        return v * self.weight


@pytest.mark.serial
def test_finds_what_a_class_inherits() -> None:
    w = torch.ones(3)
    kind = type("Derived", (type("Middle", (Base,), {"weight": w}),), {})
    assert any(x is w for x in find_captured(kind().scale))


@pytest.mark.serial
def test_a_variable_that_is_not_set_yet() -> None:
    def func(v: torch.Tensor) -> torch.Tensor:
        return later(v)

    assert find_captured(func) == []
    assert find_references(("func", func))[0].value is func

    def later(v: torch.Tensor) -> torch.Tensor:
        return v * w

    w = torch.ones(3)
    assert [x is w for x in find_captured(func)] == [True]


@pytest.mark.serial
@pytest.mark.parametrize("kind", [torch.Tensor, torch.nn.Parameter])
def test_a_simple_function_takes_no_walk(kind: type[torch.Tensor]) -> None:
    w = torch.nn.Parameter(torch.ones(3)) if kind is torch.nn.Parameter else torch.ones(3)
    number = 2.0
    found = find_tensors_at_once(lambda v: torch.sin(v * w * number))
    assert found is not None
    assert [x is w for x in found] == [True]
    assert find_tensors_at_once(torch.sin) is None
    assert find_tensors_at_once(lambda v: find_captured(v)[0]) is None


@pytest.mark.serial
def test_paths_are_written_as_python_writes_them() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    held = {"a": [torch.ones(1)]}
    tensors = [x for x in find_references(("func", lambda v: net(v) * held["a"][0])) if torch.is_tensor(x.value)]
    assert [x.path() for x in tensors] == ["func.held['a'][0]", "func.net.0.weight", "func.net.0.bias"]


@pytest.mark.serial
def test_the_walk_is_bounded() -> None:
    numbers = list(range(10 * MOST_OBJECTS))
    assert len(find_references(("func", lambda v: v + numbers[0]))) <= MOST_OBJECTS


@pytest.mark.serial
def test_libraries_are_not_walked_into() -> None:
    assert is_library("torch.nn.functional")
    assert not is_library("torchvision.models")
    assert find_captured(lambda v: torch.nn.functional.softmax(v, 0)) == []


@pytest.mark.serial
def test_names_in_reach() -> None:
    def helper(v: torch.Tensor) -> torch.Tensor:
        return v.triu()

    assert "triu" in names_in_reach(lambda v: helper(v) + 1)
    assert "triu" in names_in_reach(torch.triu)
    assert "compile" in names_in_reach(torch.compile(helper, backend="eager"))
    assert "compile" not in names_in_reach(helper)


def chosen(v: int) -> bool:
    return v in {0, 8}


@pytest.mark.serial
def test_a_function_is_the_same_in_every_process() -> None:
    """Each orders its sets in its own way, those of texts by a seed of its own."""
    one, other = frozenset((0, 8)), frozenset((8, 0))
    assert repr(one) != repr(other)
    consts = [tuple(x if c == one else c for c in chosen.__code__.co_consts) for x in (one, other)]
    here, there = (types.FunctionType(chosen.__code__.replace(co_consts=c), {}, "chosen") for c in consts)
    assert fingerprint(here, {}) == fingerprint(there, {})


@pytest.mark.serial
def test_one_walk_tells_all_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with `out=` compares the function between ranks and with the call that it resumes."""
    walks: list[object] = []
    find = references.find_references
    monkeypatch.setattr(references, "find_references", lambda *roots: walks.append(roots) or find(*roots))
    w, factor = torch.ones(2), 3
    one = fingerprint(lambda v: v @ w * factor, {"a": 1})
    assert len(walks) == 1
    factor = 4
    other = fingerprint(lambda v: v @ w * factor, {"a": 1})
    assert [x != y for x, y in zip(one, other, strict=True)] == [False, False, True]


@pytest.mark.parametrize("how", ["mapped", "captured", "keyword", "partial"])
def test_V31_modules_that_differ_between_ranks(how: str, rank: int, size: int, raises_alike: Any) -> None:
    net = torch.nn.Linear(3, 1)
    with torch.no_grad():
        net.bias.fill_(float(rank == size - 1))
    calls: dict[str, Callable[[], Any]] = {
        "mapped": lambda: ms.vmap(net)(ms.ones((6, 3), split=0)),
        "captured": lambda: ms.vmap(lambda v: net(v) * 1)(ms.ones((6, 3), split=0)),
        "keyword": lambda: ms.vmap(lambda v, net: net(v))(ms.ones((6, 3), split=0), net=net),
        "partial": lambda: ms.vmap(
            functools.partial(torch.nn.functional.linear, weight=net.weight, bias=net.bias)
        )(ms.ones((6, 3), split=0)),
    }
    with torch.no_grad():
        net.weight.fill_(1)
    if size > 1:
        with ms.debug(), raises_alike(ValueError, "every rank must map the same function"):
            calls[how]()
    with torch.no_grad():
        net.bias.fill_(0)
    with ms.debug():
        calls[how]()
