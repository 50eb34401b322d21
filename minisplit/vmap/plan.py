"""What a mapped call will do, as data and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from minisplit.core.array import DNDarray
from minisplit.core.layout import Layout
from minisplit.core.storage import StoredArray
from minisplit.core.transfer import elements_moved
from minisplit.viz.layout_figure import draw
from minisplit.vmap.batch import Batch
from minisplit.vmap.functorch import TreeSpec
from minisplit.vmap.outcome import Outcome, count_messages
from minisplit.vmap.pytree import input_labels, output_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 80
# The widest that each column of the table may be; with two blanks between them they fill the line.
_WIDTHS = (12, 15, 10, 4, 12, 12, 9)


@dataclass(frozen=True, slots=True)
class InputPlan:
    """One input: its mapped axis (None: every sample gets all of it), and what moves of it."""

    name: str
    dtype: str
    axis: int | None
    layout: Layout
    target: Layout
    bytes_moved: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """One output."""

    name: str
    dtype: str
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    @property
    def split(self) -> int | None:
        return self.layout.split


@dataclass(frozen=True, slots=True)
class Plan:
    """What a mapped call will do. `print` shows it as a table of at most 80 columns.

    bytes_moved: bytes of inputs that cross between ranks, summed over the ranks.
    collectives: collective calls that all ranks make, debug mode's own left out.
    counts: samples per rank. imbalance: the largest of them over the mean.
    chunk_size: samples per chunk, on this rank if it was measured; None for all at once, "auto" before that.
    outputs: None where they cannot be known before the call; then `unknown` says why.
    """

    name: str
    inputs: tuple[InputPlan, ...]
    outputs: tuple[OutputPlan, ...] | None
    unknown: str
    counts: tuple[int, ...]
    chunk_size: int | Literal["auto"] | None
    collectives: int

    @property
    def samples(self) -> int:
        return sum(self.counts)

    @property
    def bytes_moved(self) -> int:
        return sum(each.bytes_moved for each in self.inputs)

    @property
    def imbalance(self) -> float:
        return max(self.counts) * len(self.counts) / self.samples if self.samples else 1.0

    def __str__(self) -> str:
        ranks = f"{len(self.counts)} rank{'s' * (len(self.counts) > 1)}"
        shared = f"{self.samples} samples on {ranks}, {_listed(self.counts, 24)}: imbalance {self.imbalance:.2f}"
        head = f"vmap of {_fitted(self.name, COLUMNS - len(f'vmap of : {shared}'))}: {shared}"
        rows = [
            ("input", "shape", "dtype", "axis", "now", "then", "moved"),
            *[
                (
                    each.name,
                    str(each.shape),
                    each.dtype,
                    "-" if each.axis is None else str(each.axis),
                    _shown(each.layout),
                    "stays" if each.layout == each.target else _shown(each.target),
                    _bytes(each.bytes_moved),
                )
                for each in self.inputs
            ],
        ]
        if self.outputs is not None:
            rows += [
                ("output", "", "", "", "", "", ""),
                *[
                    (each.name, str(each.shape), each.dtype, "", "", _shown(each.layout), "")
                    for each in self.outputs
                ],
            ]
        lines = [head, "", *_table(rows)]
        if self.outputs is None:
            lines.append(f"outputs: unknown before the call ({self.unknown})")
        run = f"chunks of {self.chunk_size} samples"
        if self.chunk_size is None or self.chunk_size == "auto":
            run = "chunks of a size to be measured" if self.chunk_size else "all samples of a rank at once"
        calls = f"{self.collectives} collective call{'s' * (self.collectives != 1)}"
        lines += ["", f"{_bytes(self.bytes_moved)} moved, {calls}; {run}"]
        return "\n".join(_fitted(line, COLUMNS).rstrip() for line in lines)

    def plot(self) -> Figure:
        """Draw who holds what of each input, before and after. Needs matplotlib (`minisplit[plot]`). Local."""
        return draw(
            f"vmap of {self.name}: {_bytes(self.bytes_moved)} moved",
            [(each.name, each.axis, each.layout, each.target) for each in self.inputs],
        )


def make_plan(
    name: str,
    arrays: Sequence[DNDarray | StoredArray],
    spec: TreeSpec | None,
    batch: Batch,
    chunk_size: int | Literal["auto"] | None,
    outcome: Outcome,
) -> Plan:
    """The plan of a call. `outcome` says what the outputs are, or why that is not known."""
    names = [str(i) for i in range(len(arrays))] if spec is None else input_labels(spec)
    inputs = []
    for label, x, axis, target in zip(names, arrays, batch.in_dims, batch.targets, strict=True):
        # A file lies wherever it is wanted.
        layout = x.layout if isinstance(x, DNDarray) else target
        moved = x.dtype.itemsize * elements_moved(layout, target)
        inputs.append(InputPlan(label, _dtype_name(x.dtype), axis, layout, target, moved))
    collectives = int(batch.exchanges) + count_messages(batch, outcome.outputs)
    if batch.samples.ranks > 1:
        collectives += any(
            isinstance(x, StoredArray) and dim is None for x, dim in zip(arrays, batch.in_dims, strict=True)
        )
    outputs, unknown = None, ""
    if outcome.outputs is not None:
        each, layouts = outcome.outputs.each, outcome.outputs.layouts
        labels = output_labels(outcome.outputs.structure, len(each))
        outputs = tuple(
            OutputPlan(label, _dtype_name(output.dtype), layout)
            for label, output, layout in zip(labels, each, layouts, strict=True)
        )
    elif outcome.failure is not None:
        error = outcome.failure.error
        unknown = f"{type(error).__name__}: {(str(error) or 'no text').splitlines()[0]}"
    return Plan(name, tuple(inputs), outputs, unknown, batch.samples.counts or (), chunk_size, collectives)


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _shown(layout: Layout) -> str:
    """A layout in a few characters: `split 0`, with uneven counts `0 [1,5,0,2]`, or their range: `0 224..1125`."""
    if layout.split is None:
        return "replicated"
    if layout.ragged is None:
        return f"split {layout.split}"
    return f"{layout.split} {_listed(layout.ragged, _WIDTHS[4] - 2)}"


def _listed(counts: Sequence[int], width: int) -> str:
    text = f"[{','.join(map(str, counts))}]"
    return text if len(text) <= width else f"{min(counts)}..{max(counts)}"


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    cut = [[_fitted(cell, width) for cell, width in zip(row, _WIDTHS, strict=True)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    return [
        " ".join(
            [
                *(f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=False)),
                f"{row[-1]:>{widths[-1]}}",
            ]
        )
        for row in cut
    ]


def _fitted(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
