"""What is compared: rows of minisplit, the limit, and the peers that can do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from peers import (
    WORLD,
    DerivedTypes,
    DTensors,
    Jax,
    as_bytes,
    columns_to_packed_rows,
    gathered,
    packed_rows_to_columns,
)
from timing import Row
from vmap_chunks import MATRIX, WEIGHTS, network, polynomial

import minisplit as ms

HEAT, DTENSOR, JAX, TORCH = "Heat", "DTensor", "JAX", "torch on the shard"
# What JAX maps, given JAX: the function, as JAX writes it.
Written = Callable[[Jax], Callable[..., Any]]


@dataclass
class Peers:
    heat: Any
    dtensors: DTensors | None
    jax: Jax | None

    def of(
        self,
        heat: Callable[[Any], Any] | None = None,
        dtensor: Callable[[DTensors], Any] | None = None,
        jax: Callable[[Jax], Any] | None = None,
    ) -> Any:
        """The calls of the peers that are there."""
        calls = {}
        if jax is not None and self.jax is not None:
            calls[JAX] = jax(self.jax)
        if heat is not None and self.heat is not None:
            calls[HEAT] = heat(self.heat)
        if dtensor is not None and self.dtensors is not None:
            calls[DTENSOR] = dtensor(self.dtensors)
        return calls


def heat_of(x: ms.DNDarray) -> Callable[[Any], Any]:
    return lambda ht: ht.array(x.larray.clone(), is_split=x.split) if x.split is not None else ht.array(x.larray)


def times(x: Any, y: Any) -> Any:
    return (x * y).sum()


def product(x: torch.Tensor) -> torch.Tensor:
    return (MATRIX @ torch.relu(MATRIX @ x))[:8]


def jax_product(jax: Jax) -> Callable[[Any], Any]:
    matrix = jax.numpy.asarray(MATRIX.numpy())
    return lambda x: (matrix @ jax.numpy.maximum(matrix @ x, 0))[:8]


def jax_gradient(jax: Jax) -> Any:
    weights, tanh = jax.numpy.asarray(WEIGHTS.numpy()), jax.numpy.tanh
    return jax.jax.grad(lambda x: jax.numpy.square(tanh(weights @ tanh(weights @ x[:32]))).sum())


def mapping(peers: Peers) -> Iterator[Row]:
    def one(
        name: str,
        func: Callable[..., Any],
        *shapes: tuple[int, ...],
        written: Written | None = None,
        target: float | None = None,
        counts: list[int] | None = None,
        **kw: Any,
    ) -> Row:
        arrays = [ms.random.randn(*shape, split=0) for shape in shapes]
        arrays = [x.redistribute(counts) if counts else x for x in arrays]
        shards, mapped = [x.larray for x in arrays], ms.vmap(func, **kw)
        bare = (
            torch.vmap(func, chunk_size=kw["chunk_size"] if kw.get("chunk_size") != "auto" else None)
            if kw
            else torch.vmap(func)
        )

        def of_heat(ht: Any) -> Any:
            theirs, f = [heat_of(x)(ht) for x in arrays], ht.vmap(func, out_dims=0)
            return lambda: f(*theirs)

        of_jax = (lambda jax: jax.mapped(written(jax), *shards)) if written else None
        return Row(
            "vmap", name, lambda: mapped(*arrays), {"torch.vmap on the shard": lambda: bare(*shards)},
            peers.of(of_heat, jax=of_jax), target,
        )  # fmt: skip

    size = WORLD.size
    lines, same = (40_000 * size, 64), lambda jax: polynomial
    yield one(
        "small aligned call", times, (100, 10), (100, 10), written=lambda jax: times,
        target=(1.15, 1.35, 2, 2)[min(size, 4) - 1],
    )  # fmt: skip
    yield one("memory-bound", polynomial, lines, written=same)
    yield one("memory-bound, chunk_size=4096", polynomial, lines, written=same, chunk_size=4096)
    yield one('memory-bound, chunk_size="auto"', polynomial, lines, written=same, target=0.5, chunk_size="auto")
    yield one("matrix-bound", product, (4_000 * size, 256), written=jax_product)
    yield one(
        "singular values of 8 x 8", torch.linalg.svdvals, (4_000 * size, 8, 8),
        written=lambda jax: partial(jax.numpy.linalg.svd, compute_uv=False),
    )  # fmt: skip
    yield one("per-sample gradients", torch.func.grad(network), (4_000 * size, 64), written=jax_gradient)
    skewed = [10_000 * (1 + 2 * (rank % 2)) for rank in range(size)]
    yield one("inputs uneven alike, 1 to 3", times, *[(sum(skewed), 16)] * 2, counts=skewed)
    x, y = ms.random.randn(20_000, 16, split=0), ms.random.randn(20_000, 16, split=0)
    bare = torch.vmap(times)
    for name, far in (("one input on the last rank", y.redistribute([0] * (size - 1) + [20_000])),
                      ("one input split along another axis", y.resplit(1))):  # fmt: skip
        mapped = ms.vmap(times, in_dims=0)
        yield Row("vmap", name, partial(mapped, x, far), {"moved first": partial(moved_first, bare, x, far)})


def moved_first(bare: Any, x: ms.DNDarray, y: ms.DNDarray) -> Any:
    return bare(x.larray, y.to_layout(x.layout).larray)


def scaling() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Strong: the same problem on any number of ranks. Weak: as much for each rank."""
    size = WORLD.size
    for kind, scale in (("strong", 1), ("weak", size)):
        x = ms.random.randn(4_000 * scale, 256, split=0)
        yield f"{kind}: vmap, matrix-bound", partial(ms.vmap(product), x)
        m = ms.random.randn(1_000 * scale, 8, 8, split=0)
        yield f"{kind}: vmap, singular values of 8 x 8", partial(ms.vmap(torch.linalg.svdvals), m)
        z = ms.random.randn(40_000 * scale, 64, split=0)
        yield f"{kind}: vmap, memory-bound, auto", partial(ms.vmap(polynomial, chunk_size="auto"), z)
        yield f"{kind}: a.sum()", partial(ms.sum, ms.random.randn(4_000 * scale, 1000, split=0))
        yield f"{kind}: sort", partial(ms.sort, ms.random.randn(500_000 * scale, split=0))
        yield f"{kind}: resplit 0 to 1", partial(ms.zeros((2000 * scale, 2000), split=0).resplit, 1)


def redistribution(peers: Peers) -> Iterator[Row]:
    for n, dtype in ((64, torch.float32), (512, torch.float32), (4000, torch.float32), (4000, torch.int8)):
        rows = ms.zeros((n, n), dtype=dtype, split=0)
        columns, size = rows.resplit(1), f"{n}^2 {str(dtype).removeprefix('torch.')}"
        target = 1.1 if n == 4000 else 1.5 if n == 64 else None
        a, b = rows.larray, columns.larray.contiguous()
        to_columns, to_rows = DerivedTypes(n, 0, 1, a), DerivedTypes(n, 1, 0, a)
        limits = {"Alltoallv": partial(packed_rows_to_columns, a, n), "Alltoallw": partial(to_columns, a)}
        yield Row("resplit", f"0 to 1, {size}", partial(rows.resplit, 1), limits, moving(peers, rows, 1), target)
        limits = {"Alltoallv": partial(columns_to_packed_rows, b, n), "Alltoallw": partial(to_rows, b)}
        yield Row(
            "resplit", f"1 to 0, {size}", partial(columns.resplit, 0), limits, moving(peers, columns, 0), target
        )
        limits = {"Allgatherv": partial(gathered, a, n)}
        yield Row("resplit", f"0 to None, {size}", rows.resplit, limits, moving(peers, rows, None))
        more = {"0 to None, by minisplit": rows.resplit}
        yield Row("resplit", f"1 to None, {size}", columns.resplit, more, moving(peers, columns, None), 1.5)
    n, size = 1_000_000, WORLD.size
    even = ms.Layout((n, 4), 0, size)
    mild = [count + (-1) ** rank * 1000 * (rank < size // 2 * 2) for rank, count in enumerate(even.counts or ())]
    for name, counts in (("mild", mild), ("extreme", [n] + [0] * (size - 1))):
        x = ms.zeros((n, 4), split=0).redistribute(counts)
        # Of these layouts each rank sends to one neighbour, or one rank to all.
        theirs = peers.of(lambda ht, x=x: rebalanced(ht, x))
        limits = {"Isend, Irecv": rows_that_move(x, even)}
        yield Row("resplit", f"balance 10^6 x 4, {name} skew", x.balance, limits, theirs, 1.5)


def moving(peers: Peers, x: ms.DNDarray, split: int | None) -> dict[str, Any]:
    def of_heat(ht: Any) -> Any:
        theirs = heat_of(x)(ht)
        return lambda: ht.resplit(theirs, split)

    def of_dtensor(tensors: DTensors) -> Any:
        theirs = tensors.of(x)
        return lambda: tensors.move(theirs, split)

    return peers.of(of_heat, of_dtensor)


def rebalanced(ht: Any, x: ms.DNDarray) -> Any:
    theirs = heat_of(x)(ht)
    return lambda: ht.balance(theirs, copy=True)


def rows_that_move(x: ms.DNDarray, even: ms.Layout) -> Callable[[], Any]:
    """What each rank must send of its rows, and the copy of what it keeps, by hand."""
    have, want, rank = x.layout.offsets(), even.offsets(), WORLD.rank
    shard = x.larray

    def overlap(a: Any, i: int, b: Any, j: int) -> tuple[int, int]:
        return max(a[i], b[j]), min(a[i + 1], b[j + 1])

    def call() -> Any:
        result, requests = torch.empty(even.lshape(rank)), []
        for other in range(WORLD.size):
            low, high = overlap(have, other, want, rank)
            if low < high and other != rank:
                requests.append(WORLD.Irecv(as_bytes(result[low - want[rank] : high - want[rank]]), other))
        for other in range(WORLD.size):
            low, high = overlap(have, rank, want, other)
            part = shard[low - have[rank] : high - have[rank]]
            if low < high and other == rank:
                result[low - want[rank] : high - want[rank]] = part
            elif low < high:
                requests.append(WORLD.Isend(as_bytes(part), other))
        for request in requests:
            request.Wait()
        return result

    return call


@dataclass
class Case:
    """An operation on arrays, as minisplit, torch on the shards, Heat and DTensor have it, or None."""

    group: str
    name: str
    ours: Callable[..., Any]
    bare: Callable[..., Any] | None = None
    heat: Callable[..., Any] | None = None
    dtensor: Callable[..., Any] | None = None
    label: str = TORCH

    def row(self, peers: Peers, arrays: list[ms.DNDarray], target: float | None = None) -> Row:
        shards, limits = [x.larray for x in arrays], {}
        if self.bare is not None:
            limits[self.label] = partial(self.bare, *shards)

        def of_heat(ht: Any) -> Any:
            return partial(self.heat or print, ht, *[heat_of(x)(ht) for x in arrays])

        def of_dtensor(tensors: DTensors) -> Any:
            return partial(self.dtensor or print, *[tensors.of(x) for x in arrays])

        theirs = peers.of(of_heat if self.heat else None, of_dtensor if self.dtensor else None)
        return Row(self.group, self.name, partial(self.ours, *arrays), limits, theirs, target)


def and_allreduce(x: torch.Tensor) -> torch.Tensor:
    total = x.sum()
    WORLD.Allreduce(MPI.IN_PLACE, total.reshape(1).numpy())
    return total


PAIR = [
    Case("elementwise", "a + b", *[lambda a, b: a + b] * 2, lambda ht, a, b: a + b, lambda a, b: a + b),
    Case(
        "elementwise",
        "(a + 1) + b",
        *[lambda a, b: a + 1 + b] * 2,
        lambda ht, a, b: a + 1 + b,
        lambda a, b: a + 1 + b,
    ),
]
ALONE = [
    Case("elementwise", "sin(a)", ms.sin, torch.sin, lambda ht, a: ht.sin(a), torch.sin),
    Case("reductions", "a.sum()", ms.sum, and_allreduce, lambda ht, a: ht.sum(a), lambda a: a.sum().full_tensor(),
         "torch and Allreduce"),
    Case("reductions", "a.sum(axis=1)", lambda a: a.sum(1), lambda x: x.sum(1), lambda ht, a: ht.sum(a, 1),
         lambda a: a.sum(1)),
    Case("reductions", "a.var()", ms.var, lambda x: x.var(), lambda ht, a: ht.var(a)),
    Case("indexing", "a[3:10]", lambda a: a[3:10], None, lambda ht, a: a[3:10]),
    Case("indexing", "a[:, 3]", lambda a: a[:, 3], lambda x: x[:, 3].clone(), lambda ht, a: a[:, 3]),
]  # fmt: skip
MATMUL = Case("matmul", "rows by a replicated matrix, 1500^2", *[lambda a, w: a @ w] * 2, lambda ht, a, w: a @ w,
              lambda a, w: a @ w)  # fmt: skip
SORT = Case("sort", "10^6 float32", ms.sort, torch.sort, lambda ht, a: ht.sort(a))


def operations(peers: Peers) -> Iterator[Row]:
    for size, shape, target in (("(100, 10)", (100, 10), None), ("4000^2", (4000, 4000), 1.05)):
        arrays = [ms.random.randn(*shape, split=0) for _ in range(2)]
        for case in PAIR + ALONE:
            sized = replace(case, name=f"{case.name}, {size}")
            yield sized.row(
                peers, arrays if case in PAIR else arrays[:1], target if case.group != "indexing" else None
            )
    yield MATMUL.row(peers, [ms.random.randn(1500, 1500, split=0), ms.random.randn(1500, 1500)], 1.05)
    yield SORT.row(peers, [ms.random.randn(1_000_000, split=0)])
    rows = 1000 // WORLD.size
    yield Row("random", "rand, 1000^2 float32", lambda: ms.random.rand(1000, 1000, split=0),
              {TORCH: lambda: torch.rand(rows, 1000)},
              peers.of(lambda ht: lambda: ht.random.rand(1000, 1000, split=0)))  # fmt: skip
    yield Row("creation", "zeros((100, 10), split=0)", lambda: ms.zeros((100, 10), split=0),
              {TORCH: lambda: torch.zeros(100 // WORLD.size, 10)},
              peers.of(lambda ht: lambda: ht.zeros((100, 10), split=0)))  # fmt: skip
    part, word = torch.ones(25, 10), np.zeros(8, dtype=np.int64)
    answer = np.zeros(8 * WORLD.size, dtype=np.int64)
    yield Row("creation", "array(part, is_split=0)", lambda: ms.array(part, is_split=0),
              {"Allgather of 64 bytes": lambda: WORLD.Allgather(word, answer)},
              peers.of(lambda ht: lambda: ht.array(part, is_split=0)))  # fmt: skip
