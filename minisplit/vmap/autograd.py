"""How gradients, tangents and batches cross a mapped call.

Autograd runs a node of its graph only where a gradient arrives, which may differ between ranks: one without
samples runs no function, for one. But the moves of the inputs, reversed, are collective. So all inputs come into a
call through one node, and all outputs go out of it through another one, which leads to the first on every rank.

Between the two lies the function's own graph, which is apart: the outputs' node runs it, by a call of autograd of
its own. What fails in it on one rank is known there, before the inputs' node makes its moves, and all ranks raise
it. A backward pass that is to be differentiated itself is a graph apart too, so this holds for derivatives of any
order.

Transforms of `torch.func` around a call, and forward mode, must see the function's own operations. For them each
output is linked to the inputs' node by a token, a number without a meaning, of which every rank has a tangent, and
the axes of a batch, where the inputs have them.

Autograd runs the nodes that could run next in the reverse order of their making. So every rank runs the inputs'
node after all nodes of its function, and the inputs' nodes of several calls in the same order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from minisplit.core.array import DNDarray
from minisplit.core.collectives import (
    Collective,
    Gradients,
    Tensors,
    alias,
    apply,
    broadcast,
    cut_elements,
    join_elements,
    keep_on_root,
    linear,
    redistribute_all,
)  # fmt: skip
from minisplit.core.communication.agreement import agreement
from minisplit.core.communication.protocol import Communication
from minisplit.core.layout import Layout
from minisplit.core.performance_warning import warn_of_moves
from minisplit.core.pytorch.graph_breaks import never_compiled
from minisplit.core.pytorch.pytree import pytree
from minisplit.core.pytorch.transforms import (
    has_hooks,
    has_tangent,
    has_tangent_within,
    in_batch_of,
    is_batched,
    is_followed,
    is_plain,
    is_transformed,
    keeps_graph,
    old_batch,
)
from minisplit.core.storage import StoredArray
from minisplit.vmap.inputs.batch import Batch
from minisplit.vmap.pytree import Unmapped


class InputMove(NamedTuple):
    """From which layout to which an input goes, and what must be added up.

    `reduce`: the ranks' tensors are the parts of a sum, which is made before the move. `reduce_gradient`: each
    rank uses all of the moved tensor for a part of a result, so that the ranks' gradients are the parts of a sum.
    """

    src: Layout
    dst: Layout
    reduce: bool = False
    reduce_gradient: bool = False

    def transpose(self) -> InputMove:
        """The move of the gradient."""
        return InputMove(self.dst, self.src, self.reduce_gradient, self.reduce)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """How the inputs of a call came in.

    `entered` are the tensors that came out of the inputs' node and require a gradient; `leaves` are the same ones
    for the function, whose graph ends there. Both are empty if the graph is not apart, since more than gradients
    is computed of the call.
    """

    token: torch.Tensor
    entered: list[torch.Tensor]
    leaves: list[torch.Tensor]
    is_apart: bool


def move_inputs(
    arrays: Sequence[DNDarray | StoredArray],
    batch: Batch,
    unmapped: Unmapped | None,
    captured: Sequence[torch.Tensor],
    traced: bool,
    comm: Communication,
) -> tuple[Entry | None, list[Any], list[torch.Tensor]]:
    """Return each input's shard under its target layout, and what `leave` needs if derivatives are to be computed.

    If `traced`, gradients are to flow back to inputs, what is not mapped or `captured` tensors, or these have
    tangents or batches. What is not mapped is replaced by tensors that come out of the inputs' node. Those
    that stand for the captured ones are returned as well.

    Of a mapped input that is in a file there is no shard: it is returned as it is. A file that every sample gets
    is read. Collective: one exchange if a shard must move, one agreement if a file is read.
    """
    places = [i for i, x in enumerate(arrays) if isinstance(x, DNDarray)]
    inputs: list[Any] = [x.larray if isinstance(x, DNDarray) else x for x in arrays]
    src, dst = [x.layout for x in arrays], batch.targets
    if batch.exchanges:
        warn_of_moves([(inputs[i].itemsize, src[i], dst[i]) for i in places], comm)
    if traced:
        # Every rank makes a part of the result from all of what is replicated.
        moves = [InputMove(src[i], dst[i], reduce_gradient=dst[i].split is None) for i in places]
        leaves, traced_leaves = ([], []) if unmapped is None else (unmapped.leaves, unmapped.traced)
        given = [*(leaves[place] for place in traced_leaves), *captured]
        for x in given:
            layout = Layout(x.shape, None, comm.size)
            moves.append(InputMove(layout, layout, reduce_gradient=True))
        token, moved = enter([*inputs, *given], moves, comm)
        entry = Entry(token, [], [], not (is_transformed() or has_tangent(token)))
        if entry.is_apart:
            for i, x in enumerate(moved):
                if x.requires_grad:
                    moved[i] = x.detach().requires_grad_()
                    entry.entered.append(x)
                    entry.leaves.append(moved[i])
        end = len(inputs) + len(traced_leaves)
        for place, x in zip(traced_leaves, moved[len(inputs) : end], strict=True):
            leaves[place] = x
        return entry, moved[: len(inputs)], moved[end:]
    for i in places:
        if src[i].split is None and dst[i].split is not None:
            # A view is enough: a mapped function must not write to its arguments.
            inputs[i] = inputs[i][dst[i].box(comm.rank)]
            src[i] = dst[i]
    shards = _move([inputs[i] for i in places], [InputMove(src[i], dst[i]) for i in places], comm)
    for i, x in zip(places, shards, strict=True):
        inputs[i] = x
    whole = [i for i, dim in enumerate(batch.in_dims) if dim is None and isinstance(arrays[i], StoredArray)]
    if whole:
        with agreement(comm, "reading the inputs that every sample gets"):
            for i in whole:
                inputs[i] = inputs[i].read(dst[i].box(comm.rank))
    return None, inputs, []


def enter(
    tensors: Tensors, moves: Sequence[InputMove], comm: Communication
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Move all tensors as one node of autograd's graph; return a token for `link`, and the moved tensors.

    Collective as the moves are, and so is the backward pass. The ranks' tensors must agree in whether they require
    gradients.
    """
    token, *moved = apply(_Enter(comm, tuple(moves)), *tensors)
    # Autograd says of all that comes out of the node that it requires a gradient, if one of its tensors does. With
    # that the outputs of a function would require one that refers to a network, but is given other parameters.
    return token, [y if is_followed(x) else y.detach() for x, y in zip(tensors, moved, strict=True)]


def leave(
    entry: Entry, shards: Sequence[torch.Tensor], replicated: Sequence[bool], root: int | None, comm: Communication
) -> list[torch.Tensor]:
    """Return the outputs of a call, from all of which a backward pass comes to the inputs' node, once.

    `replicated` says which of them are the same on all ranks. If `root` is no None, some ranks have no samples,
    and get these from that rank. Collective then: one broadcast for each.
    """
    results = list(shards)
    if entry.is_apart:
        places = [i for i, x in enumerate(shards) if x.requires_grad]
        if places:
            part = _Part(comm, entry.leaves, [shards[i] for i in places])
            if has_hooks():
                # For `torch.utils.checkpoint` the first look at what a graph has saved is when to compute it all
                # again, with its collective calls. The function's graph may have saved nothing, as on a rank
                # without samples.
                leaf = torch.zeros((), requires_grad=True)
                part.anchor = leaf, leaf.exp()
            for i, x in zip(places, _Apart.apply(part, *entry.entered), strict=True):  # type: ignore[no-untyped-call]
                results[i] = x
    else:
        results = [link(entry.token, x, comm) for x in shards]
    for i, x in enumerate(results):
        if replicated[i] and root is not None:
            results[i] = broadcast(x, tuple(x.shape), root, comm)
        elif replicated[i] and is_followed(x):
            results[i] = count_once(x, 0, comm)
    return results


def link(token: torch.Tensor, output: torch.Tensor, comm: Communication) -> torch.Tensor:
    """Return an output from which a backward pass comes to the inputs' node, if by no other way. Local."""
    return apply(_Link(comm), token, output)[0]


@dataclass(slots=True, eq=False)
class _Part:
    """A graph apart: its `leaves`, and its `outputs`, of which some may not depend on them.

    `is_shared` says that a backward pass of it is a graph apart as well, which has nodes of this one. What they
    saved must outlast a pass through either, since a pass may come to both. `anchor`, a leaf and an output that
    has saved something, is for what happens at a look at that.
    """

    comm: Communication
    leaves: list[torch.Tensor]
    outputs: list[torch.Tensor]
    is_shared: bool = False
    anchor: tuple[torch.Tensor, torch.Tensor] | None = None

    def differentiate(self, gradients: Sequence[torch.Tensor | None], create_graph: bool) -> list[torch.Tensor]:
        """Return the gradients of the leaves from those of the outputs, None being one that is zero. Local."""
        pairs = [
            (output, gradient)
            for output, gradient in zip(self.outputs, gradients, strict=True)
            if output.requires_grad and gradient is not None
        ]
        leaves = self.leaves
        if self.anchor is not None:
            leaf, output = self.anchor
            leaves = [*leaves, leaf]
            pairs.append((output, torch.zeros_like(output)))
        found: Sequence[torch.Tensor | None] = [None] * len(leaves)
        if pairs:
            found = torch.autograd.grad(
                [output for output, _ in pairs],
                leaves,
                [gradient for _, gradient in pairs],
                retain_graph=create_graph or self.is_shared or keeps_graph(),
                create_graph=create_graph,
                allow_unused=True,
            )
        own = [torch.zeros_like(x) if y is None else y for x, y in zip(self.leaves, found, strict=False)]
        # On a rank without samples, say, nothing else says that there is a batch of gradients.
        return in_batch_of([x for x in gradients if x is not None], own)


@never_compiled
class _Apart(torch.autograd.Function):
    """The node of the outputs of a graph apart, whose backward pass runs it. All ranks fail in that, or none.

    Its inputs are the tensors that the leaves stand for.
    """

    @staticmethod
    def forward(part: _Part, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(map(alias, part.outputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.part, *tensors = inputs
        ctx.save_for_backward(*tensors)
        # A gradient that does not arrive is none, so that the graph behind that output is left for another pass.
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        part: _Part = ctx.part
        if not torch.is_grad_enabled():
            with _agreed(part.comm):
                found = part.differentiate(gradients, create_graph=False)
            return None, *found
        # For higher derivatives the backward pass is a graph apart, too. The zeros are the same inputs on all
        # ranks.
        given = [torch.zeros_like(x) if y is None else y for x, y in zip(part.outputs, gradients, strict=True)]
        with _agreed(part.comm):
            whole, put_back = zip(*map(old_batch, given), strict=True)
            leaves = [x.detach().requires_grad_() for x in whole]
            found = part.differentiate(
                [back(x) for back, x in zip(put_back, leaves, strict=True)], create_graph=True
            )
            outputs, put_back = zip(*map(old_batch, found), strict=True)
        part.is_shared = True
        higher = _Part(part.comm, [*leaves, *part.leaves], list(outputs), is_shared=True)
        results = _Apart.apply(higher, *whole, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return None, *[back(x) for back, x in zip(put_back, results, strict=True)]


@contextmanager
def _agreed(comm: Communication) -> Iterator[None]:
    """Raise on all ranks what the block raises on one."""
    # Autograd may run a backward pass in a thread of its own.
    with (
        comm.taken_over() if comm.size > 1 else nullcontext(),
        agreement(comm, "computing the gradients of a mapped function"),
    ):
        yield


@dataclass(frozen=True, slots=True)
class _Enter(Collective):
    """The moves of all inputs, in one exchange. The backward pass makes the transposed moves, also in one."""

    comm: Communication
    moves: tuple[InputMove, ...]
    # The extents of the axes of batches, see `Collective.batched`.
    batch: tuple[int, ...] = ()

    is_one = False

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        sums = _reduce([move.reduce for move in self.moves], tensors, self.comm)
        moved = _move(sums, self.moves, self.comm)
        # The token is an output of this node, so that an edge to it is one to this node. Its gradient is zero.
        token = torch.zeros(self.batch, device=tensors[0].device)
        return [token, *[alias(x) if y is x else y for x, y in zip(sums, moved, strict=True)]]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        # Only what is wanted is sent: an input of integers has a gradient of no use.
        places = [i for i, needed in enumerate(wanted) if needed]
        token, *others = gradients
        selected = [others[i] for i in places]
        if torch.is_grad_enabled():
            # For second derivatives: where one arrives on any rank, all ranks must come to this pass' own nodes.
            selected = [link(token, gradient, self.comm) for gradient in selected]
        _, moved = enter(selected, [self.moves[i].transpose() for i in places], self.comm)
        by_place = dict(zip(places, moved, strict=True))
        return [by_place.get(i) for i in range(len(self.moves))]

    def batched(self, size: int) -> tuple[Collective, int]:
        return replace(self, batch=(*self.batch, size)), -1

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        # The token has what any input has.
        return [True, *inputs]


@dataclass(frozen=True, slots=True)
class _Link(Collective):
    """An output as it is, with an edge of the graph to the token beside its own.

    The token is kept, for the backward pass of second derivatives. If all tensors were, the output would be too,
    and autograd would forbid to change it in place, as `y += 1` does after a mapped call.
    """

    comm: Communication

    keeps_tensors = True

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        x = tensors[1]
        # Torch lays a tangent out as its tensor, and writes into it, which elements that share memory forbid.
        return [x.contiguous() if 0 in x.stride() else alias(x)]

    def keep(self, inputs: Tensors, outputs: Tensors) -> Tensors:
        return inputs[:1]

    def backward(self, kept: Tensors, gradients: Tensors, wanted: Sequence[bool]) -> Gradients:
        (token,), (gradient,) = kept, gradients
        zero = torch.zeros_like(token)
        if not torch.is_grad_enabled():
            return zero, gradient
        # The gradient of the inputs is made from this one, by the function: on a rank without samples nothing
        # says so but the first link. Without it that rank does not come to the node from which this gradient came,
        # and third derivatives wait for it.
        zero = link(gradient, link(token, zero, self.comm), self.comm)
        return zero, link(token, gradient, self.comm)

    def has_batch(self, inputs: Sequence[bool]) -> Sequence[bool]:
        return [True]


def count_once(output: torch.Tensor, root: int, comm: Communication) -> torch.Tensor:
    """Return an output that is the same on all ranks, whose gradient counts once: that of rank `root` flows back.

    Each rank has the whole gradient. If each let it flow into its function, parameters, whose gradients are added
    up over the ranks, would get it once per rank. `root` has samples.

    Communication
    -------------
    Local. The backward pass of a backward pass is one broadcast.
    """
    # A broadcast of what all ranks have already, so that no message is sent.
    return linear(output, comm, alias, lambda gradient: keep_on_root(gradient, tuple(gradient.shape), root, comm))


def _reduce(wanted: Sequence[bool], tensors: Tensors, comm: Communication) -> Tensors:
    """The tensors, those that are wanted added up over the ranks: one allreduce for all of one dtype.

    A module has some dozens of small parameters, and a message for each would take longer than their sum.
    """
    sums = list(tensors)
    by_dtype: dict[torch.dtype, list[int]] = {}
    for i, x in enumerate(tensors):
        if wanted[i]:
            by_dtype.setdefault(x.dtype, []).append(i)
    for places in by_dtype.values():
        parts = [tensors[i] for i in places]
        for i, total in zip(places, cut_elements(comm.allreduce(join_elements(parts)), parts), strict=True):
            sums[i] = total
    return sums


def substitute(
    func: Callable[..., Any], originals: Sequence[torch.Tensor], replacements: Sequence[torch.Tensor]
) -> Callable[..., Any]:
    """Return a function like `func`, for which other tensors stand in the place of some that it refers to.

    So the gradients of what it captured come to the inputs' node, where they are added up over the ranks. The
    function and what it captured are not changed, since threads that are ranks may have them in common.
    """
    by_id = {id(old): new for old, new in zip(originals, replacements, strict=True)}

    def substituted(*args: Any) -> Any:
        with _Substitution(by_id):
            returned = func(*args)
        # What it returns as it is went through no function of torch.
        return pytree.tree_map_only(torch.Tensor, lambda x: by_id.get(id(x), x), returned)

    return substituted


class _Substitution(TorchFunctionMode):
    """Puts some tensors in the place of others wherever they are given to a function of torch."""

    def __init__(self, by_id: dict[int, torch.Tensor]) -> None:
        super().__init__()
        self.by_id = by_id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(
            *[self.replace(x) for x in args], **{name: self.replace(x) for name, x in (kwargs or {}).items()}
        )

    def replace(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.by_id.get(id(x), x)
        return type(x)(map(self.replace, x)) if type(x) in (list, tuple) else x


def describe_gradients(call_inputs: Sequence[Any], unmapped: Unmapped | None, captured: Tensors) -> str:
    """A text that says to what gradients flow back, the same on all ranks if they agree in it. Local."""
    inputs = [i for i, x in enumerate(call_inputs) if isinstance(x, DNDarray) and x.larray.requires_grad]
    others = [] if unmapped is None else [unmapped.leaves[place] for place in unmapped.traced]
    tensors = ", ".join(f"{x.dtype} {tuple(x.shape)}" for x in (*others, *captured))
    return f"gradients to inputs {inputs} and to tensors that are not mapped or captured [{tensors}]"


def _references(node: Any) -> int:
    """How many references there are to the leaf of a node of autograd's graph."""
    leaf = node.variable
    return sys.getrefcount(leaf)


# How many there are to one that nothing but its graph has, which differs between versions of torch.
_DOUBLE: Any = (torch.ones((), requires_grad=True) * 2).grad_fn
_FORGOTTEN = _references(_DOUBLE.next_functions[0][0])


def check_gradients(outputs: list[torch.Tensor], entry: Entry | None) -> None:
    """RuntimeError if a gradient of the outputs flows to a tensor past the inputs' node.

    That is a tensor that the function came by in a way that `minisplit.vmap.inputs.references` does not follow. On
    each rank it would get the gradient of that rank's samples alone. One that the function has made and forgotten,
    as the parameters of a layer that it makes, gets none that anybody could see: outputs that depend on nothing
    else require no gradient. Local.
    """
    first: Any = None if entry is None else entry.token.grad_fn
    while first is not None and "_Apply" not in first.name():  # of a dual token, a step of `make_dual`
        first = first.next_functions[0][0]
    seen = set() if entry is None else {id(x) for x in entry.leaves}
    nodes: list[Any] = [x.grad_fn or x for x in outputs if x.requires_grad]
    has_graph = bool(nodes)
    while nodes:
        node = nodes.pop()
        if node is first or id(node) in seen or id(getattr(node, "variable", None)) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, torch.Tensor) and not hasattr(node, "variable"):
            nodes += [following for following, _ in node.next_functions if following is not None]
        elif isinstance(node, torch.Tensor) or _references(node) > _FORGOTTEN:
            leaf = node if isinstance(node, torch.Tensor) else node.variable
            raise RuntimeError(
                f"func uses a tensor of shape {tuple(leaf.shape)} and {leaf.dtype} that requires a gradient, in a "
                "way that minisplit cannot follow, so that each rank would get the gradient of its own samples: "
                "give it to the mapped function by keyword, or detach() it"
            )
    if is_plain():
        if entry is None and has_graph:
            outputs[:] = [x.detach() for x in outputs]
        return
    for has, what in ((has_tangent_within, "a tangent"), (is_batched, "a batch of torch.vmap")):
        if (entry is None or not has(entry.token)) and any(map(has, outputs)):
            raise RuntimeError(
                f"func uses a tensor that has {what}, in a way that minisplit cannot follow: ranks without "
                "samples would have none: give it to the mapped function by keyword"
            )


def _move(tensors: Tensors, moves: Sequence[InputMove], comm: Communication) -> Tensors:
    """The tensors, in one exchange for those whose layout changes. The others are returned as they are."""
    moving = [i for i, move in enumerate(moves) if move.src != move.dst]
    pairs = [(moves[i].src, moves[i].dst) for i in moving]
    moved = dict(zip(moving, redistribute_all([tensors[i] for i in moving], pairs, comm), strict=True))
    return [moved.get(i, x) for i, x in enumerate(tensors)]
