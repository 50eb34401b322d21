"""Drawn calls of `ms.vmap` against `torch.vmap` on the gathered inputs, and what they send against their plans."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as hs
from torch.utils import _pytree as pytree

import minisplit as ms
from minisplit.testing import Whole, assert_equal, spmd, traffic
from minisplit.testing import strategies as st

DTYPES = (torch.float64, torch.int64, torch.bool, torch.complex128, torch.float32, torch.bfloat16)
# What may become of one input's sample; each is exact for small integers.
OUTPUTS: dict[str, Any] = {
    "itself": lambda x: x,
    "sum": lambda x: x.double().sum() if not x.is_complex() else x.sum(),
    "deeper": lambda x: x[None],
    "twice": lambda x: torch.stack([x, x], -1),
    "constant": lambda x: torch.arange(3),
}
STRUCTURES = ("flat", "list", "dict", "nested", "bare")


class Case(NamedTuple):
    """A call of vmap."""

    inputs: Any  # Wholes
    in_dims: Any
    outputs: tuple[str, ...]
    structure: str
    out_dims: Any
    chunk_size: Any
    max_imbalance: float


def arranged(leaves: list[Any], structure: str) -> Any:
    """Leaves as what a function returns, or is given."""
    match structure:
        case "list":
            return list(leaves)
        case "dict":
            return {f"key {i}": x for i, x in enumerate(leaves)}
        case "nested":
            return leaves[0], {"rest": leaves[1:]}
        case "bare":
            return leaves[0]
    return tuple(leaves)


@hs.composite
def cases(draw: hs.DrawFn) -> Case:
    extent = draw(hs.integers(0, 6))
    by_split = draw(hs.booleans())
    wholes, axes = [], []
    for i in range(draw(hs.integers(1, 3))):
        shape = list(draw(st.shapes(max_dims=2, max_side=3)))
        axis = None if i and draw(hs.booleans()) else draw(hs.integers(0, len(shape)))
        if axis is not None:
            shape.insert(axis, extent)
        dtype = draw(hs.sampled_from(DTYPES))
        layout = st.layouts(tuple(shape), split=axis if by_split else "any")
        wholes.append(Whole(draw(st.tensors(tuple(shape), dtype)), draw(layout)))
        axes.append(axis if axis is None or not draw(hs.booleans()) else axis - len(shape))
    structure = draw(hs.sampled_from(("flat", "dict", "nested")))
    names = draw(hs.lists(hs.sampled_from([*OUTPUTS]), min_size=1, max_size=3))
    kind = draw(hs.sampled_from(STRUCTURES))
    none = extent > 0 and draw(hs.booleans())
    out_axes = [draw(hs.sampled_from((0, -1)) if name != "constant" or not none else hs.none()) for name in names]
    whole_axis = draw(hs.booleans()) and None not in out_axes
    return Case(
        (arranged(wholes, structure),) if structure != "flat" else tuple(wholes),
        "split" if by_split else ((arranged(axes, structure),) if structure != "flat" else tuple(axes)),
        tuple(names),
        kind,
        out_axes[0] if whole_axis or kind == "bare" else arranged(out_axes, kind),
        draw(hs.sampled_from((None, 1, 2, "auto"))),
        draw(hs.sampled_from((2.0, 1.0, 10.0))),
    )


def function_of(case: Case) -> Any:
    def func(*args: Any) -> Any:
        given = pytree.tree_leaves(args)
        outputs = [OUTPUTS[name](given[i % len(given)]) for i, name in enumerate(case.outputs)]
        return arranged(outputs, case.structure)

    return func


def expected_of(case: Case) -> list[torch.Tensor]:
    """What `torch.vmap` gives, in order; for no samples what it gives for one, without that one."""
    wholes, spec = pytree.tree_flatten(case.inputs)
    dims = [w.layout.split for w in wholes] if case.in_dims == "split" else pytree.tree_leaves(case.in_dims)
    extents = {w.layout.shape[dim] for w, dim in zip(wholes, dims, strict=True) if dim is not None}
    given = [
        w.tensor.new_ones([1 if i == dim % w.tensor.ndim else n for i, n in enumerate(w.tensor.shape)])
        if dim is not None and extents == {0}
        else w.tensor
        for w, dim in zip(wholes, dims, strict=True)
    ]
    # torch.vmap repeats what is the same for all samples along the first axis, whatever out_dims says.
    outputs = torch.vmap(function_of(case), pytree.tree_unflatten(dims, spec))(*pytree.tree_unflatten(given, spec))
    leaves, out_spec = pytree.tree_flatten(outputs)
    out_dims = pytree._broadcast_to_and_flatten(case.out_dims, out_spec)
    assert out_dims is not None
    if extents == {0}:
        leaves = [x[:0] for x in leaves]
    return [x[0] if dim is None else x.movedim(0, dim) for x, dim in zip(leaves, out_dims, strict=True)]


def is_mapped(case: Case) -> bool:
    """Whether an input has a mapped axis."""
    if case.in_dims == "split":
        return any(w.layout.split is not None for w in pytree.tree_leaves(case.inputs))
    return any(dim is not None for dim in pytree.tree_leaves(case.in_dims))


@given(case=cases().filter(is_mapped))
@spmd
def test_equals_torch_vmap_on_the_gathered_inputs_and_sends_what_it_plans(case: Case) -> None:
    arrays = pytree.tree_map_only(Whole, lambda whole: whole.cut(), case.inputs)
    comm = ms.get_comm()
    options = {"in_dims": case.in_dims, "chunk_size": case.chunk_size, "max_imbalance": case.max_imbalance}
    mapped = ms.vmap(function_of(case), case.out_dims, **options)
    with traffic() as planning:
        plan = mapped.plan(*arrays)
    with traffic() as seen:
        outputs = mapped(*arrays)
    expected = expected_of(case)
    returned = (expected[0],) if case.structure == "bare" else arranged(expected, case.structure)
    plain = tuple(outputs) if case.structure == "bare" else outputs  # a tuple that says how to take the one in it
    assert pytree.tree_structure(plain) == pytree.tree_structure(returned)
    for out, want in zip(pytree.tree_leaves(outputs), expected, strict=True):
        assert_equal(out, want)
        assert out.split is None or out.counts == plan.counts
    sent = int(comm.allreduce(torch.tensor(seen.bytes_sent)))
    assert planning.collectives == 0
    assert (seen.collectives, sent) == (plan.collectives if comm.size > 1 else 0, plan.bytes_moved)
    assert plan.outputs is not None
    assert [(x.shape, x.split, f"torch.{x.dtype}") for x in plan.outputs] == [
        (x.shape, x.split, str(x.dtype)) for x in pytree.tree_leaves(outputs)
    ]
    for array, whole in zip(pytree.tree_leaves(arrays), pytree.tree_leaves(case.inputs), strict=True):
        assert array.layout == whole.layout
        assert_equal(array, whole.tensor)


def sample_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x**3).sum() * y.sum() + (y * y).sum()


@hs.composite
def pairs(draw: hs.DrawFn) -> tuple[tuple[Whole, Whole], tuple[int | None, int | None]]:
    """Two inputs with any layouts, and their mapped axes."""
    extent = draw(hs.integers(1, 5))
    wholes = []
    axes: list[int | None] = []
    for i in range(2):
        axis = draw(hs.integers(0, 1)) if i == 0 else draw(hs.sampled_from((None, 0, 1)))
        shape = [draw(hs.integers(1, 2))] * (2 if axis is None else 1)
        if axis is not None:
            shape.insert(axis, extent)
        tensor = draw(st.tensors(tuple(shape), torch.float64)).requires_grad_()
        wholes.append(Whole(tensor, draw(st.layouts(tuple(shape)))))
        axes.append(axis)
    return (wholes[0], wholes[1]), (axes[0], axes[1])


@given(pair=pairs(), chunk_size=hs.sampled_from((None, 1)))
@spmd
def test_V23_gradients_of_any_order_arrive_in_the_layouts_of_the_inputs(pair: Any, chunk_size: Any) -> None:
    wholes, axes = pair
    x, y = (whole.cut() for whole in wholes)
    a, b = (whole.tensor.detach().clone().requires_grad_() for whole in wholes)
    (out,) = ms.vmap(sample_loss, in_dims=axes, chunk_size=chunk_size)(x, y)
    want = torch.vmap(sample_loss, axes)(a, b)
    weights = torch.arange(1.0, len(want) + 1, dtype=torch.float64)
    mine = (out.larray * weights[out.layout.box(out.comm.rank)]).sum()
    first = torch.autograd.grad(mine, (x.larray, y.larray), create_graph=True)
    first_wanted = torch.autograd.grad((want * weights).sum(), (a, b), create_graph=True)
    for array, got, wanted in zip((x, y), first, first_wanted, strict=True):
        assert_equal(ms.DNDarray(got, array.layout, array.comm), wanted)
    # Of what is replicated every rank has the whole, and so the same gradient.
    second = torch.autograd.grad(first[0].sum() + 2 * first[1].sum(), (x.larray, y.larray))
    second_wanted = torch.autograd.grad(first_wanted[0].sum() + 2 * first_wanted[1].sum(), (a, b))
    for array, got, wanted in zip((x, y), second, second_wanted, strict=True):
        assert_equal(ms.DNDarray(got, array.layout, array.comm), wanted)
