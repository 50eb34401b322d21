"""Several arrays out of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.layout import Layout, as_index, normalise_axis
from minisplit.ops.elementwise.apply import named
from minisplit.ops.shape.layouts import permute_layout, with_extent, without_axis
from minisplit.ops.shape.reshape import own_memory


def unstack(x: DNDarray, /, axis: int = 0) -> tuple[DNDarray, ...]:
    """Return the arrays that `x` has along `axis`, in a tuple.

    Local, but along the split axis collective: then `x` is split evenly along its longest other axis first, by
    one exchange. Raises IndexError for an axis out of range.

    >>> import minisplit as ms
    >>> [y.tolist() for y in ms.unstack(ms.arange(6, split=0).reshape((3, 2)), axis=1)]
    [[0, 2, 4], [1, 3, 5]]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    whole = x._align(without_axis(x.layout, axis))
    rest = (*range(axis), *range(axis + 1, x.ndim))
    like = permute_layout(with_extent(whole.layout, axis, 1), (axis, *rest))
    split = None if like.split is None else like.split - 1
    layout = Layout(like.shape[1:], split, like.ranks, like.ragged)
    return tuple(DNDarray(own_memory(shard), layout, x.comm) for shard in whole.larray.unbind(axis))


def array_split(x: DNDarray, indices_or_sections: int | Sequence[int], /, axis: int = 0) -> list[DNDarray]:
    """Return `x` cut along `axis`: into so many parts, the first ones 1 longer, or before these indices.

    Local. Each part stays on the ranks that have it. Raises IndexError for an axis out of range, ValueError for
    fewer than one part.

    >>> import minisplit as ms
    >>> [part.tolist() for part in ms.array_split(ms.arange(5, split=0), 2)]
    [[0, 1, 2], [3, 4]]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    if isinstance(indices_or_sections, Iterable):
        bounds = [as_index(index, "every index of indices_or_sections") for index in indices_or_sections]
    else:
        parts = as_index(indices_or_sections, "indices_or_sections")
        if parts < 1:
            raise ValueError(f"indices_or_sections must be at least 1, got {parts}")
        share, more = divmod(x.shape[axis], parts)
        bounds = [part * share + min(part, more) for part in range(1, parts)]
    around: tuple[slice, ...] = (slice(None),) * axis
    ends: list[int | None] = [*bounds, None]
    return [x[(*around, slice(start, stop))] for start, stop in zip([0, *bounds], ends, strict=True)]


def split(x: DNDarray, indices_or_sections: int | Sequence[int], /, axis: int = 0) -> list[DNDarray]:
    """Return `x` cut along `axis` into so many equal parts, or before each of these indices. Local.

    See `array_split`. ValueError where the axis cannot be cut into equal parts.

    >>> import minisplit as ms
    >>> [part.shape for part in ms.split(ms.zeros((4, 3), split=0), [1, 3])]
    [(1, 3), (2, 3), (1, 3)]
    """
    axis = normalise_axis(axis, as_dndarray(x).ndim, "axis")
    given = indices_or_sections
    parts = 1 if isinstance(given, Iterable) else as_index(given, "indices_or_sections")
    if parts > 0 and x.shape[axis] % parts:
        raise ValueError(
            f"axis {axis} of shape {x.shape} cannot be cut into {parts} equal parts; array_split makes parts "
            "that differ by 1"
        )
    return array_split(x, indices_or_sections, axis)


def _cutter(name: str, axis_of: Callable[[int], int], what: str) -> Callable[..., list[DNDarray]]:
    """Make `split` along an axis that depends on the number of dimensions."""

    def operation(x: DNDarray, indices_or_sections: int | Sequence[int], /) -> list[DNDarray]:
        return split(x, indices_or_sections, axis_of(as_dndarray(x).ndim))

    doc = f"""Return `x` cut along {what}. Local. See `split`.

    >>> import minisplit as ms
    >>> len(ms.{name}(ms.zeros((2, 2, 2), split=0), 2))
    2
    """
    return named(operation, name, doc)


vsplit = _cutter("vsplit", lambda ndim: 0, "axis 0")
hsplit = _cutter("hsplit", lambda ndim: min(1, ndim - 1), "axis 1, or 0 of a 1-d array")
dsplit = _cutter("dsplit", lambda ndim: 2, "axis 2")
