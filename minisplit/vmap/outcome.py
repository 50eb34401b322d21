"""How the ranks' runs ended: whether any failed, whether all outputs look alike, and what is said of a failure.

After a mapped call the ranks take the elementwise maximum of their records, three integers each. That is the only
message of a call whose inputs are in place, if every rank has samples.
"""

from __future__ import annotations

import json
import pickle
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.communication.agreement import ALL_WELL, Failure, failure_code, raise_together
from minisplit.core.communication.protocol import Communication, Record
from minisplit.core.error_text import ranks_named, said_by
from minisplit.core.layout import Layout
from minisplit.vmap.inputs.batch import Batch, OutDim, output_layout, sample_axis, sample_shape
from minisplit.vmap.pytree import Structure, example_of, structure_of, structure_text
from minisplit.vmap.reduction import ReducedOutput

# Lower than any digest: in place of one, from a rank that has no samples, or failed.
_NO_DIGEST = ALL_WELL
# How many outputs, and how many kinds of ranks, a message about differing outputs names.
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Output:
    """What every rank must know of one output, also a rank without samples.

    `shape` is that of one sample. `dim` is the mapped axis, or how it is reduced over the samples, or None for an
    output that is the same for every sample; for such an output there is also a checksum of its values.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    dim: OutDim
    requires_grad: bool = False
    checksum: int = 0

    def __str__(self) -> str:
        grad = ", requires grad" if self.requires_grad else ""
        if self.dim is None:
            return f"{self.dtype} {self.shape}, not mapped, with checksum {self.checksum:x}{grad}"
        if isinstance(self.dim, str):
            return f"{self.dtype} {self.shape}, the {self.dim} over the samples{grad}"
        return f"{self.dtype} {self.shape} per sample, mapped along axis {self.dim}{grad}"


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """All outputs of a call, how they lie in what the function returned, and their layouts.

    `digest` is a number below 2**56 that is the same for the same outputs, on every rank. `record` is what a rank
    with these outputs puts into the agreement. `name` is that of the function, and `reductions` are those outputs
    that are reduced over the samples.
    """

    each: tuple[Output, ...]
    structure: Structure
    layouts: tuple[Layout, ...]
    digest: int
    record: Record
    gradients: str = ""
    name: str = ""
    reductions: tuple[ReducedOutput, ...] = ()

    def __str__(self) -> str:
        return _join([*self.texts()[:-1], ""])

    def record_with(self, fingerprint: int) -> Record:
        """A record that is the same for the same outputs and the same fingerprint, a number below 2**56."""
        digest = self.digest ^ fingerprint
        return make_record(ALL_WELL, digest, -digest)

    def texts(self) -> list[str]:
        """A text for each output, then for structure, gradients and function, "" where there is nothing to say."""
        return [*map(str, self.each), structure_text(self.structure), self.gradients, self.name]

    def pickled(self) -> bytes:
        """What ranks without samples cannot know by themselves. TypeError if they could not make the structure."""
        example = example_of(self.structure)
        try:
            return pickle.dumps((self.each, example))
        except Exception as error:
            raise TypeError(
                f"func returned a {type(example).__name__} that ranks without samples cannot make, since it "
                f"cannot be pickled ({said_by(error)}): define its classes at the top of a module"
            ) from error


class Outcome(NamedTuple):
    """How a run ended on this rank. Nothing is known to a rank without samples.

    `tensors` are the outputs of this rank's samples, `outputs` says what they are; both are None if there is a
    `failure`. `message` is what this rank tells ranks without samples, if it is the one to do so.
    """

    tensors: list[torch.Tensor] | None = None
    outputs: Outputs | None = None
    failure: Failure | None = None
    message: bytes = b""


def make_record(code: int, digest: int, negated: int) -> Record:
    """A rank's record, of which the ranks take the elementwise maximum. There it holds

    - minus the first rank that failed: each that did gives minus its number, and any other one the lowest number;
    - the largest digest of any rank's outputs;
    - minus the smallest. Outputs are alike on all ranks if these two add up to 0. Ranks that have no outputs give
      the lowest number for both, and so do not count.
    """
    record = np.array([code, digest, negated], dtype=np.int64)
    record.flags.writeable = False  # one record serves all calls with such outputs
    return record


def failure_record(comm: Communication, failure: Failure | None) -> Record:
    """The record of a rank that failed, or has no samples."""
    return make_record(failure_code(comm, None if failure is None else failure.error), _NO_DIGEST, _NO_DIGEST)


# Looked up by each mapped call. Key: dtypes, shapes on this rank, mapped axes, whether gradients are required,
# checksums of replicated outputs; structure; samples per rank. Building a value takes 20 us, beside a call of 30
# us. A program has some dozens of mapped functions and shapes, so 256 entries of 1 KiB hold them all. There must
# be a bound, as each new value of a replicated output makes an entry.
@lru_cache(maxsize=256)
def describe(
    kinds: tuple[Any, ...], structure: Structure, samples: Layout, gradients: str = "", name: str = ""
) -> Outputs:
    """Describe outputs of which `kinds` has dtype, shape on this rank, mapped axis, requires_grad and checksum.

    `gradients` says to what gradients flow back, in which ranks must agree too: the backward pass is collective.
    `name` is that of the function: ranks that map functions of other names are noticed without a further message.
    """
    each = [
        Output(dtype, sample_shape(shape, sample_axis(dim)), dim, requires_grad, checksum)
        for dtype, shape, dim, requires_grad, checksum in kinds
    ]
    return _outputs(tuple(each), structure, samples, gradients, name)


def _outputs(
    each: tuple[Output, ...], structure: Structure, samples: Layout, gradients: str = "", name: str = ""
) -> Outputs:
    layouts = tuple(output_layout(output.shape, output.dim, samples) for output in each)
    # The representation of a structure may have addresses in it, which differ between ranks.
    text = re.sub(r" at 0x[0-9a-f]+", "", f"{each} {structure!r} {gradients} {name}")
    digest = int.from_bytes(blake2b(text.encode(errors="backslashreplace"), digest_size=7).digest())
    reductions = tuple(
        ReducedOutput(i, output.dim, output.dtype, output.shape, output.requires_grad)
        for i, output in enumerate(each)
        if isinstance(output.dim, str)
    )
    record = make_record(ALL_WELL, digest, -digest)
    return Outputs(each, structure, layouts, digest, record, gradients, name, reductions)


def settle(
    comm: Communication, batch: Batch, outcome: Outcome, highest: Record, compare: Callable[[], None]
) -> Outputs:
    """Return the outputs' description, known on every rank, or raise the same error on all. Collective.

    `highest` is the maximum of the ranks' records. Raises the error of the first rank that failed, else ValueError
    if the ranks' outputs differ. `compare` is called where the records do and the outputs do not, to raise what
    else is wrong, if it is. Else there is one more message, where some ranks have no samples: a broadcast that
    tells them.
    """
    # Plain ints, since the exception that names the rank is pickled, and texts show NumPy's types.
    code, largest, smallest = int(highest[0]), int(highest[1]), -int(highest[2])
    if code != ALL_WELL:
        raise_together(comm, -code, outcome.failure)
    if largest != smallest:
        _check_same(comm, outcome.outputs)
        compare()
    if batch.root is not None:
        message = comm.broadcast_bytes(outcome.message, batch.root)
        if outcome.outputs is None:
            each, example = pickle.loads(message)
            return _outputs(each, structure_of(example), batch.samples)
    assert outcome.outputs is not None, "every rank with samples describes its outputs"
    return outcome.outputs


def agree_on_gradients(
    comm: Communication, outputs: Outputs, tensors: list[torch.Tensor] | None, samples: Layout, is_apart: bool
) -> Outputs:
    """Return the outputs, with those requiring a gradient that do on any rank. Collective: one message.

    `tensors` are those of this rank, None if it has no samples. In a graph apart they are to require a gradient
    where those of any rank do.
    """
    mine = [0] * len(outputs.each) if tensors is None else [int(x.requires_grad) for x in tensors]
    anywhere = comm.agree(np.array(mine, dtype=np.int64))
    for x, flag in zip(tensors or (), anywhere, strict=False):
        if is_apart and flag and not x.requires_grad:
            x.requires_grad_()
    each = [replace(x, requires_grad=bool(flag)) for x, flag in zip(outputs.each, anywhere, strict=True)]
    return _outputs(tuple(each), outputs.structure, samples, outputs.gradients, outputs.name)


def count_messages(batch: Batch, outputs: Outputs | None, by_value: bool = False) -> int:
    """How many collective calls it takes to agree on the outputs, and to have those that are replicated.

    Without `outputs`, none of them is taken to be replicated. `by_value` says that what requires a gradient is
    agreed on too.
    """
    if batch.samples.ranks == 1:
        return 0
    calls = 1 + by_value
    if outputs is not None and batch.size:
        calls += len({output.group for output in outputs.reductions})
    if batch.root is not None:
        calls += 1 + sum(output.dim is None for output in (outputs.each if outputs else ()))
    return calls


def _check_same(comm: Communication, mine: Outputs | None) -> None:
    """ValueError that says which ranks have which outputs, if they differ. Collective.

    One allgather, and a broadcast per kind.
    """
    digests = comm.allgather_record(np.array([_NO_DIGEST if mine is None else mine.digest]))[:, 0].tolist()
    ranks_by_digest: dict[int, list[int]] = {}
    for rank, digest in enumerate(digests):
        if digest != _NO_DIGEST:
            ranks_by_digest.setdefault(digest, []).append(rank)
    groups = list(ranks_by_digest.values())
    if len(groups) == 1:
        return
    kinds = []
    # The texts go around only now: in the record there is but their digest.
    for ranks in groups[:_MOST_NAMED]:
        message = json.dumps(mine.texts()).encode() if mine is not None and comm.rank == ranks[0] else b""
        kinds.append(json.loads(comm.broadcast_bytes(message, ranks[0])))
    for place in (-1, -2):
        if len({texts[place] for texts in kinds}) == 1:
            for texts in kinds:
                texts[place] = ""  # not in this do the ranks differ
    chosen = None
    if len({len(texts) for texts in kinds}) == 1 and len(kinds[0]) > _MOST_NAMED + 1:
        # Of many outputs those that differ: the first ones may all be alike.
        chosen = [i for i, texts in enumerate(zip(*kinds, strict=True)) if len(set(texts)) > 1]
    parts = [
        f"{_join(texts, chosen)} on {ranks_named(ranks)}" for texts, ranks in zip(kinds, groups, strict=False)
    ]
    listed = "; ".join(parts) + "; ..." * (len(groups) > len(kinds))
    raise ValueError(
        "func must be the same, and must return the same structure, number, shapes and dtypes of outputs on every "
        "rank, and where out_dims is None the same values, and let gradients flow back to the same tensors, "
        f"got {listed}"
    )


def _join(texts: Sequence[str], chosen: Sequence[int] | None = None) -> str:
    """The texts of outputs, all or the `chosen` ones by number, then of structure, gradients and function."""
    *outputs, structure, gradients, name = texts
    if chosen is None:
        named = [f"({text})" for text in outputs]
    else:
        named = [f"output {i} ({outputs[i]})" for i in chosen if i < len(outputs)]
    more = len(named) - _MOST_NAMED
    text = " and ".join(named[:_MOST_NAMED] + [f"{more} more"] * (more > 0)) or f"{len(outputs)} outputs"
    said = zip((" as ", " with ", " of "), (structure, gradients, name), strict=True)
    return text + "".join(word + each for word, each in said if each)


def explain(
    error: BaseException,
    start: int,
    stop: int,
    again: Callable[[int, int], object] | None,
    samples: Layout,
    rank: int,
) -> Failure:
    """What to say on all ranks of an error that came while this rank mapped its samples from `start` to `stop`.

    `again`, which maps the samples from one local number to another, serves to find the first sample that fails.
    It is None where the function did not fail, but what it did or returned is at fault.
    """
    # Not after sys.exit(), nor where memory ran out: fewer samples take less.
    if again is not None and isinstance(error, Exception) and hint_for(error) != _MEMORY_HINT:
        start, stop = narrow(error, start, stop, again)
    first = samples.span(rank)[0]
    failing = range(first + start, first + stop)
    name = f"sample {failing[0]}" if len(failing) == 1 else f"samples {failing[0]} to {failing[-1]}"
    return Failure(error, f"mapping {name} of {samples.size}", hint_for(error), {"samples": failing})


def narrow(error: Exception, start: int, stop: int, again: Callable[[int, int], object]) -> tuple[int, int]:
    """Find the first sample that fails, by bisection; return all if the error does not come again.

    It maps at most about twice as many samples as are given.
    """

    def fails(first: int, last: int) -> bool:
        try:
            again(first, last)
        except KeyboardInterrupt:
            raise
        except BaseException as another:  # also a sys.exit() this time: the other ranks wait
            return type(another) is type(error)
        return False

    # Most often all samples fail, so the first one is tried before any bisection.
    if stop - start > 1 and fails(start, start + 1):
        stop = start + 1
    while stop - start > 1:
        middle = (start + stop) // 2
        if fails(start, middle):
            stop = middle
        elif fails(middle, stop):
            start = middle
        else:
            break
    return start, stop


def hint_for(error: BaseException) -> str:
    """What may help against an error, or "". Torch's own texts are terse here, or are about one rank's chunk."""
    text = said_by(error)
    if isinstance(error, MemoryError):
        return _MEMORY_HINT
    if any(sign in text for sign in _BY_VALUE) and _is_within(error, "torch.distributions"):
        return _DISTRIBUTION_HINT
    return next((hint for signs, hint in _HINTS.items() if any(sign in text for sign in signs)), "")


def _is_within(error: BaseException, package: str) -> bool:
    """Whether an error came while a function of that package was running."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(str(frame.f_globals.get("__name__")).startswith(package) for frame in frames)


def with_shapes(failure: Failure, shapes: Sequence[tuple[int, ...]]) -> Failure:
    """Say with an error that is about shapes what shapes a sample has, if there is no other hint."""
    text = said_by(failure.error)
    about_shapes = isinstance(failure.error, IndexError) or any(sign in text for sign in _SHAPE_SIGNS)
    if failure.hint or "samples" not in failure.attributes or not about_shapes:
        return failure
    seen = " and ".join(f"input {i} has shape {shape}" for i, shape in enumerate(shapes[:_MOST_NAMED]))
    return replace(failure, hint=f"func sees one sample: {seen}")


_SHAPE_SIGNS = ("shape", "size", "dimension", "Dimension")
_BY_VALUE = ("data-dependent control flow", "calling .item() on a Tensor")
_DISTRIBUTION_HINT = (
    "torch.distributions looks at the values of arguments, which differ between samples: give the distribution "
    "validate_args=False; if it needs values beyond that, run func on one sample after the other by loop=True"
)
_MEMORY_HINT = (
    "a chunk of fewer samples takes less memory: set chunk_size, to a number or to 'auto' with memory_budget"
)
# For parts of an error's text, what helps. The first row that fits counts. Memory comes first, as `explain` runs
# nothing again where it ran out.
_HINTS = {
    ("can't allocate memory", "out of memory", "Unable to allocate"): _MEMORY_HINT,
    ("calling .item() on a Tensor", "Cannot access data pointer of Tensor that doesn't have storage"): (
        "func sees all samples of a chunk as one tensor, so it has no Python number or NumPy array of one of "
        "them: use torch operations instead of item(), int(), float(), tolist() and numpy(), or pass a number "
        "that is the same for all samples by keyword, or run func on one sample after the other by loop=True"
    ),
    ("data-dependent control flow", "vmap over torch.allclose", "not implemented for aten::equal"): (
        "samples may go different ways: replace `if condition: a else: b` by torch.where(condition, a, b), which "
        "computes both, and compare with torch.isclose or == instead of allclose or equal, or run func on one "
        "sample after the other by loop=True"
    ),
    ("dynamic shape", "differently shaped Tensor"): (
        "every sample's result must have the same shape: keep all elements and set the others to a neutral value, "
        "e.g. torch.where(mask, x, 0) instead of x[mask]; with loop=True only what func returns must"
    ),
    ("aten::lstm", "aten::gru", "aten::rnn"): (
        "torch cannot map its recurrent layers and cells: run func on one sample after the other by loop=True, or "
        "write the cell by torch.nn.functional.linear, sigmoid and tanh"
    ),
    ("Batching rule not implemented",): (
        "torch cannot map this operation: run func on one sample after the other by loop=True; or without out=, "
        "or from other operations, it may work; or give it a rule of your own with torch.library.custom_op and "
        "register_vmap"
    ),
    ("don't yet support saved tensor hooks",): (
        "func computes derivatives itself, and torch cannot compute those again in a backward pass: leave out "
        "checkpoint=True (or what else keeps tensors by hooks)"
    ),
    ("must override the setup_context staticmethod",): (
        "torch cannot map this torch.autograd.Function: run func on one sample after the other by loop=True, or "
        "give the function a setup_context and a rule vmap, or generate_vmap_rule = True"
    ),
    ("inplace arithmetic(self, *extra_args) is not possible", "doesn't match the broadcast shape"): (
        "func changes in place a tensor that has no axis for the samples, as one that it captured: write "
        "y = y + x instead of y += x, or change a clone of it"
    ),
    ("random operation while in randomness error mode: that of the torch.vmap",): (
        'give that one randomness="different" or "same"; its samples then draw other numbers, or the same'
    ),
    ("random operation while in randomness error mode",): (
        'minisplit.vmap(..., randomness="different") lets each sample draw other numbers, "same" the same, '
        "whatever the number of ranks"
    ),
    ("but minisplit.vmap has no rule for it",): (
        "draw by torch.rand, randn, randint, normal, bernoulli, multinomial, randperm, exponential_ and the like, "
        "or outside of func by minisplit.random, one row for each sample, and map over the draws, or run func on "
        "one sample after the other by loop=True, where all of torch's random functions draw"
    ),
    ("change in place a tensor that is the same for all samples",): (
        "fill a tensor that func makes, as by torch.empty or clone, rather than one that it captured"
    ),
    ("Batch norm got a batched tensor", "D input (got 1D input)"): (
        "func sees one sample, and the statistics of a batch are those of samples on all ranks: call the module's "
        "eval() first, or take a norm of one sample, such as LayerNorm or GroupNorm"
    ),
    ("Batch element",): (
        "torch counts batch elements within one rank's chunk; error.samples has the global index"
    ),
}
