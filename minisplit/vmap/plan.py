"""What a mapped call will do, as data and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from minisplit.core.array import DNDarray
from minisplit.core.error_text import counted, said_by
from minisplit.core.layout import Layout
from minisplit.core.storage import StoredArray
from minisplit.core.transfer import elements_moved
from minisplit.viz.layout_figure import draw
from minisplit.vmap.inputs.batch import Batch
from minisplit.vmap.outcome import Outcome, count_messages
from minisplit.vmap.pytree import output_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 80
# The widest that each column of the table may be. With a blank between two of them they fill the line.
_WIDTHS = (12, 15, 10, 4, 12, 12, 9)


@dataclass(frozen=True, slots=True)
class InputPlan:
    """What a mapped call will do with one input.

    Parameters
    ----------
    name : str
        The place among the arguments: `0`, or `1['weight']` in a structure.
    dtype : str
        The dtype, as `float32`.
    axis : int or None
        The mapped axis; None if every sample gets all of the input.
    layout : Layout
        The layout that the input has.
    target : Layout
        The layout that the call needs.
    bytes_moved : int
        How many bytes go to another rank for that, over all ranks.

    Attributes
    ----------
    shape : tuple of int
        The global shape.
    """

    name: str
    dtype: str
    axis: int | None
    layout: Layout
    target: Layout
    bytes_moved: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The global shape."""
        return self.layout.shape


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What one output of a mapped call will be.

    Parameters
    ----------
    name : str
        The place in what the function returns: `0`, or `'loss'` in a structure.
    dtype : str
        The dtype, as `float32`.
    layout : Layout
        The layout.
    reduction : str or None
        How it is reduced over the samples, as "sum"; None if it is not.

    Attributes
    ----------
    shape : tuple of int
        The global shape.
    split : int or None
        The split axis, that of the samples; None for a replicated output.
    """

    name: str
    dtype: str
    layout: Layout
    reduction: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The global shape."""
        return self.layout.shape

    @property
    def split(self) -> int | None:
        """The split axis, that of the samples; None for a replicated output."""
        return self.layout.split


@dataclass(frozen=True, slots=True)
class Plan:
    """What a mapped call will do, as data. `print` shows it as a table of at most 80 columns.

    Made by the method `plan` of what `minisplit.vmap` returns.

    Parameters
    ----------
    name : str
        The name of the mapped function.
    inputs : tuple of InputPlan
        The inputs, in order.
    outputs : tuple of OutputPlan or None
        The outputs, in order; None if they cannot be known before the call.
    unknown : str
        Why the outputs are not known, else empty.
    counts : tuple of int
        How many samples each rank gets.
    chunk_size : int, "auto" or None
        How many samples are mapped at a time, on this rank if it was measured; "auto" before that, and None for
        all at once. With `loop=True` it is 1.
    collectives : int
        How many collective calls all ranks make, without those of debug mode, and without those by which outputs
        go to files.
    compiled : bool
        Whether this rank runs compiled code, or will compile it.
    not_compiled : str
        Why it does not, although `compile=` asks for it, as far as earlier calls have shown; else empty.

    Attributes
    ----------
    samples : int
        The number of samples on all ranks.
    bytes_moved : int
        How many bytes of inputs go to another rank, over all ranks.
    imbalance : float
        The largest count over the mean of the counts.
    """

    name: str
    inputs: tuple[InputPlan, ...]
    outputs: tuple[OutputPlan, ...] | None
    unknown: str
    counts: tuple[int, ...]
    chunk_size: int | Literal["auto"] | None
    collectives: int
    compiled: bool = False
    not_compiled: str = ""

    @property
    def samples(self) -> int:
        """The number of samples on all ranks."""
        return sum(self.counts)

    @property
    def bytes_moved(self) -> int:
        """How many bytes of inputs go to another rank, over all ranks."""
        return sum(each.bytes_moved for each in self.inputs)

    @property
    def imbalance(self) -> float:
        """The largest count over the mean of the counts."""
        return max(self.counts) * len(self.counts) / self.samples if self.samples else 1.0

    def __str__(self) -> str:
        ranks = counted(len(self.counts), "rank")
        counts = (
            f"{self.samples} samples on {ranks}, {_counts_text(self.counts, 24)}: imbalance {self.imbalance:.2f}"
        )
        head = f"vmap of {_shorten(self.name, COLUMNS - len(f'vmap of : {counts}'))}: {counts}"
        rows = [("input", "shape", "dtype", "axis", "now", "then", "moved")]
        for each in self.inputs:
            axis = "-" if each.axis is None else str(each.axis)
            then = "stays" if each.layout == each.target else _layout_text(each.target)
            moved = _bytes_text(each.bytes_moved)
            rows.append((each.name, str(each.shape), each.dtype, axis, _layout_text(each.layout), then, moved))
        if self.outputs is not None:
            rows.append(("output", "", "", "", "", "", ""))
            for output in self.outputs:
                then = _layout_text(output.layout)
                rows.append((output.name, str(output.shape), output.dtype, output.reduction or "", "", then, ""))
        lines = [head, "", *_table(rows)]
        if self.outputs is None:
            lines.append(f"outputs: unknown before the call ({self.unknown})")
        run = "one sample at a time" if self.chunk_size == 1 else f"chunks of {self.chunk_size} samples"
        if self.chunk_size is None or self.chunk_size == "auto":
            run = "chunks of a size to be measured" if self.chunk_size else "all samples of a rank at once"
        run += ", compiled" if self.compiled else ""
        calls = counted(self.collectives, "collective call")
        if self.not_compiled:
            lines.append(f"not compiled: {self.not_compiled}")
        lines += ["", f"{_bytes_text(self.bytes_moved)} moved, {calls}; {run}"]
        return "\n".join(_shorten(line, COLUMNS).rstrip() for line in lines)

    def plot(self) -> Figure:
        """Draw which rank holds what of each input, before the call and for it.

        Returns
        -------
        matplotlib.figure.Figure
            A figure with a row for each input.

        Raises
        ------
        ImportError
            If matplotlib is not installed (`pip install "minisplit[plot]"`).

        Communication
        -------------
        Local.
        """
        return draw(
            f"vmap of {self.name}: {_bytes_text(self.bytes_moved)} moved",
            [(each.name, each.axis, each.layout, each.target) for each in self.inputs],
        )


def make_plan(
    name: str,
    arrays: Sequence[DNDarray | StoredArray],
    labels: Sequence[str],
    batch: Batch,
    chunk_size: int | Literal["auto"] | None,
    outcome: Outcome,
    by_value: bool = False,
    why_not: str | None = None,
) -> Plan:
    """The plan of a call. `labels` name the arrays, `outcome` says what the outputs are, or why that is not known.

    `by_value` says that ranks agree on which outputs require gradients. `why_not` says why a call that is to be
    compiled is not, as far as that is known; None where it is not to be compiled.
    """
    inputs = []
    for label, x, axis, target in zip(labels, arrays, batch.in_dims, batch.targets, strict=True):
        # Every rank may read any part of a file, so nothing of it moves.
        layout = x.layout if isinstance(x, DNDarray) else target
        moved = x.dtype.itemsize * elements_moved(layout, target)
        inputs.append(InputPlan(label, _dtype_name(x.dtype), axis, layout, target, moved))
    # All inputs that move do so in one exchange, and the files that every sample gets are read under one
    # agreement.
    reads = any(isinstance(x, StoredArray) and dim is None for x, dim in zip(arrays, batch.in_dims, strict=True))
    collectives = (
        batch.exchanges + count_messages(batch, outcome.outputs, by_value) + (reads and batch.samples.ranks > 1)
    )
    outputs, unknown = None, ""
    if outcome.outputs is not None:
        each, layouts = outcome.outputs.each, outcome.outputs.layouts
        names = output_labels(outcome.outputs.structure, len(each))
        outputs = tuple(
            OutputPlan(
                label, _dtype_name(output.dtype), layout, output.dim if isinstance(output.dim, str) else None
            )
            for label, output, layout in zip(names, each, layouts, strict=True)
        )
    elif outcome.failure is not None:
        error = outcome.failure.error
        unknown = f"{type(error).__name__}: {said_by(error).splitlines()[0]}"
    counts = batch.samples.counts or ()
    return Plan(
        name, tuple(inputs), outputs, unknown, counts, chunk_size, collectives, why_not == "", why_not or ""
    )


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _layout_text(layout: Layout) -> str:
    """A layout in a few characters: `split 0`, with uneven counts `0 [1,5,0,2]`, or their range: `0 224..1125`."""
    if layout.split is None:
        return "replicated"
    if layout.ragged is None:
        return f"split {layout.split}"
    return f"{layout.split} {_counts_text(layout.ragged, _WIDTHS[4] - 2)}"


def _counts_text(counts: Sequence[int], width: int) -> str:
    """The counts of all ranks, or their range where they take more characters than `width`."""
    text = f"[{','.join(map(str, counts))}]"
    return text if len(text) <= width else f"{min(counts)}..{max(counts)}"


def _bytes_text(number: float) -> str:
    """A number of bytes in at most nine characters, the width of its column."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1000:  # not 1024: "1023.9 KiB" would be too wide
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with columns, of which the last is aligned to the right."""
    cells = [[_shorten(cell, width) for cell, width in zip(row, _WIDTHS, strict=True)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    template = " ".join(f"{{:{align}{width}}}" for align, width in zip("<<<<<<>", widths, strict=True))
    return [template.format(*row) for row in cells]


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
