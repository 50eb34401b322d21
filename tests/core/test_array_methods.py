"""The methods of arrays that are functions: one for each name, in a file that is made of the functions."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from layouts import dealt, layouts

import minisplit as ms
from minisplit.testing import assert_close

WHOLE = np.array([[1.5, -2.25, 3.0], [0.5, 4.75, -1.0], [2.5, 0.0, 7.0], [-3.5, 1.0, 2.0]])


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(ms.__file__).parent.parent / "docs" / "methods.py"
    spec = importlib.util.spec_from_file_location("methods", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.serial
def test_the_file_is_what_its_functions_make(tool: ModuleType) -> None:
    found, wanted = (ast.dump(ast.parse(text)) for text in (tool.FILE.read_text(), tool.page()))
    assert found == wanted, "run: python docs/methods.py"


@pytest.mark.serial
def test_every_function_of_an_array_is_a_method(tool: ModuleType) -> None:
    for name in tool.named():
        assert callable(getattr(ms.DNDarray, name)), name
    for name in tool.WITHOUT:
        assert hasattr(ms.DNDarray, name), name


@pytest.mark.serial
def test_methods_hand_on_all_arguments(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each argument of a method, whether given by place or by name, comes to the function under its own name."""
    from minisplit.core import array_methods

    for name, target in tool.named().items():
        function = getattr(ms.linalg, target[7:]) if target.startswith("linalg.") else getattr(ms, target)
        signature, got = inspect.signature(function), {}

        def record(*args: Any, _signature: inspect.Signature = signature, _got: Any = got, **kwargs: Any) -> None:
            _got.update(_signature.bind(*args, **kwargs).arguments)

        space = ms.linalg if target.startswith("linalg.") else ms.ops
        with monkeypatch.context() as patch:
            patch.setattr(space, target.removeprefix("linalg."), record)
            patch.setattr(array_methods, "operations", ms.ops)
            own = list(signature.parameters.values())
            by_place = [
                each.name for each in own if each.kind is not each.KEYWORD_ONLY and "VAR" not in each.kind.name
            ]
            by_name = {each.name: each.name for each in own if each.kind is each.KEYWORD_ONLY}
            getattr(ms.DNDarray, name)(*by_place, **by_name)
        assert got == {each: each for each in [*by_place, *by_name]}, name


CALLS: dict[str, Any] = {
    "sin": np.sin,
    "round": lambda x: x.round(1),
    "clip": lambda x: x.clip(0.0, 2.0),
    "sort": lambda x: np.sort(x, 0),
    "argsort": lambda x: x.argsort(0),
    "take": lambda x: x.take([2, 0], 0),
    "trace": lambda x: x.trace(),
    "diagonal": lambda x: x.diagonal(),
    "dot": lambda x: x.dot(x.T),
    "compress": lambda x: x.compress([True, False, True], 1),
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "conj": lambda x: x.conj(),
    "copy": lambda x: x.copy(),
    "choose": lambda x: (x > 0).astype(np.int64).choose([x, -x]),
    "flatten": lambda x: x.flatten(),
}
TORCH: dict[str, Any] = {
    "abs": lambda t: t.abs(),
    "clone": lambda t: t.clone(),
    "add_": lambda t: t.clone().add_(t),
    "mul_": lambda t: t.clone().mul_(3).sub_(1).div_(2),
    "clamp_": lambda t: t.clone().clamp_(0, 1),
    "exp_": lambda t: t.clone().exp_(),
    "zero_": lambda t: t.clone().zero_(),
    "fill_": lambda t: t.clone().fill_(2),
    "copy_": lambda t: t.clone().copy_(t[1]),
    "double": lambda t: t.double(),
    "long": lambda t: t.long(),
    "bool": lambda t: t.bool(),
    "half": lambda t: t.half(),
    "to": lambda t: t.to(torch.float64),
    "unsqueeze": lambda t: t.unsqueeze(1),
    "to a device": lambda t: t.to("cpu", torch.int64),
    "view": lambda t: t.view(2, 6),
    "permute": lambda t: t.permute(1, 0),
    "t": lambda t: t.t(),
    "expand": lambda t: t.expand(2, -1, 3),
    "narrow": lambda t: t.narrow(0, 1, 2),
    "H": lambda t: t.H,
    "chunk": lambda t: t.chunk(3)[1],
    "where": lambda t: t.where(t > 0, -t),
    "masked_fill": lambda t: t.masked_fill(t > 0, 9),
    "masked_select": lambda t: t.masked_select(t > 0),
    "index_select": lambda t: t.index_select(1, torch.tensor([2, 0])),
    "det": lambda t: t[1:].det(),
    "inverse": lambda t: t[1:].inverse(),
    "mm": lambda t: t.mm(t.t()),
    "neg": lambda t: t.neg(),
    "eq": lambda t: t.eq(1.0),
    "tril": lambda t: t.tril(),
    "norm": lambda t: t.norm(),
    "flip": lambda t: t.flip((0,)),
    "reshape_as": lambda t: t.reshape_as(t.reshape(6, 2)),
    "type_as": lambda t: t.type_as(t.int()),
    "amax": lambda t: t.amax(0),
}


@pytest.mark.parametrize("name", [*CALLS, *TORCH])
def test_values(size: int, name: str) -> None:
    whole = torch.from_numpy(WHOLE)
    wanted = np.asarray(CALLS[name](WHOLE)) if name in CALLS else TORCH[name](whole).numpy()
    for layout in layouts(WHOLE.shape, size):
        x = dealt(whole, layout)
        made = (CALLS | TORCH)[name](x)
        assert isinstance(made, ms.DNDarray)
        assert made.dtype is getattr(torch, str(wanted.dtype))
        assert_close(made, torch.from_numpy(np.array(wanted)))
        assert torch.equal(x.larray, whole[layout.box(x.comm.rank)])


def test_methods_take_the_names_of_torch_for_axes(size: int, raises_alike: Any) -> None:
    whole = torch.from_numpy(WHOLE)
    for layout in layouts(WHOLE.shape, size):
        x = dealt(whole, layout)
        assert_close(x.sum(dim=1, keepdim=True), whole.sum(dim=1, keepdim=True))
        assert_close(x.mean(dim=[0, 1]), whole.mean())
        assert_close(x.flip(dims=(0,)), whole.flip(dims=(0,)))
        assert_close(x.cumsum(dim=0), whole.cumsum(dim=0))
        assert_close(x.unsqueeze(dim=1), whole.unsqueeze(dim=1))
        assert_close(x.sum(1, True), whole.sum(1, True))
        assert_close(x.amax(0, True), whole.amax(0, True))
        assert_close(x.flip(0, 1), whole.flip(0, 1))
        assert_close(x.flatten(0, 1), whole.flatten(0, 1))
        assert_close(x.unsqueeze(0).flatten(1), whole.flatten().unsqueeze(0))
        assert_close(x.tile(2, 1), whole.tile(2, 1))
        assert_close(x.roll(shifts=1, dims=0), whole.roll(shifts=1, dims=0))
        assert_close(x.diagonal(dim1=1, dim2=0, offset=1), whole.diagonal(dim1=1, dim2=0, offset=1))
    with raises_alike(TypeError, match=r"sum\(\) has no argument 'ddim'; .*: axis, keepdims"):
        x.sum(ddim=0)  # type: ignore[call-arg]
    with raises_alike(TypeError, match=r"cumsum\(\) has no argument 'keepdim'; .*: axis"):
        x.cumsum(dim=0, keepdim=True)


@pytest.mark.serial
def test_errors_name_the_form_for_what_torch_means_otherwise() -> None:
    x: Any = ms.ones((2, 3))
    for call, words in [
        (lambda: x.std(1, True), r"std\(\) takes other .* x\.std\(axis, correction=1, keepdims=True\)"),
        (lambda: x.var(0, unbiased=False), "no argument 'unbiased': write correction=0"),
        (lambda: x.sum(1, torch.float64), r"x\.sum\(axis, dtype=\.\.\., keepdims=True\)"),
        (lambda: x.repeat(2, 1, 1), r"torch's x\.repeat\(2, 1, 1\) is x\.tile\(\(2, 1, 1\)\)"),
    ]:
        with pytest.raises(TypeError, match=words):
            call()
    with pytest.raises(ValueError, match="start_dim before end_dim, got 1 and 0"):
        x.flatten(1, 0)
    assert ms.ones((0, 3, 4)).flatten(1).shape == (0, 12)


def test_what_methods_refuse(raises_alike: Any) -> None:
    x = ms.ones((2, 3, 4), split=0)
    with raises_alike(ValueError, match=r"t\(\) is for matrices"):
        x.t()
    with raises_alike(TypeError, match=r"view takes a shape, got torch\.int32; x\.astype"):
        x.view(torch.int32)  # type: ignore[arg-type]
    with raises_alike(
        TypeError, match=r"out is of torch\.int64, which has no place for results of torch\.float32"
    ):
        ms.arange(3, split=0).exp_()
    assert (x.numel(), x.dim(), x.itemsize, x.is_complex(), x.cpu() is x, x.contiguous() is x) == (
        24,
        3,
        4,
        False,
        True,
        True,
    )
    assert (x.create_lshape_map() == x.lshape_map).all()
    assert x.counts_displs() == (x.counts, x.displs)
