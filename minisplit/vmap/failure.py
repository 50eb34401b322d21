"""What to say when a mapped function fails: for which sample first, and what to do where torch's text is terse."""

from __future__ import annotations

from collections.abc import Callable

from minisplit.core.layout import Layout
from minisplit.vmap.execute import Outcome

# From what an error says to what helps. The first that fits counts.
_HINTS = (
    (
        ("calling .item() on a Tensor", "Cannot access data pointer of Tensor that doesn't have storage"),
        "func sees all samples of a chunk as one tensor, so it has no Python number or NumPy array of one of "
        "them: use torch operations instead of item(), int(), float(), tolist() and numpy(), or pass a number "
        "that is the same for all samples by keyword",
    ),
    (
        ("data-dependent control flow", "vmap over torch.allclose", "not implemented for aten::equal"),
        "samples may go different ways: replace `if condition: a else: b` by torch.where(condition, a, b), which "
        "computes both, and compare with torch.isclose or == instead of allclose or equal",
    ),
    (
        ("dynamic shape", "differently shaped Tensor"),
        "every sample's result must have the same shape: keep all elements and set the others to a neutral value, "
        "e.g. torch.where(mask, x, 0) instead of x[mask]",
    ),
    (
        ("Batching rule not implemented",),
        "torch cannot map this operation: without out=, or from other operations, it may work; or give it a rule "
        "of your own with torch.library.custom_op and register_vmap",
    ),
    (
        ("inplace arithmetic(self, *extra_args) is not possible", "doesn't match the broadcast shape"),
        "func changes in place a tensor that has no axis for the samples, as one that it captured or made with "
        "torch.zeros: write y = y + x instead of y += x, or make the tensor with zeros_like of an argument",
    ),
    (
        ("random operation while in randomness error mode: that of the torch.vmap",),
        'give that one randomness="different" or "same"; its samples then draw other numbers, or the same',
    ),
    (
        ("random operation while in randomness error mode",),
        'minisplit.vmap(..., randomness="different") lets each sample draw other numbers, "same" the same, '
        "whatever the number of ranks",
    ),
    (
        ("but minisplit.vmap has no rule for it",),
        "draw by torch.rand, randn, randint, normal, bernoulli, multinomial, randperm, exponential_ and the like, "
        "or outside of func by minisplit.random, one row for each sample, and map over the draws",
    ),
    (
        ("change in place a tensor that is the same for all samples",),
        "use torch.randn(3) for torch.empty(3).normal_(), or make the tensor from an argument, by "
        "torch.empty_like or clone",
    ),
    (
        ("Batch norm got a batched tensor", "D input (got 1D input)"),
        "func sees one sample, and the statistics of a batch are those of samples on all ranks: call the module's "
        "eval() first, or take a norm of one sample, such as LayerNorm or GroupNorm",
    ),
    (
        ("Batch element",),
        "torch counts batch elements within one rank's chunk; error.samples has the global index",
    ),
    (
        ("can't allocate memory", "out of memory", "Unable to allocate"),
        "a chunk of fewer samples takes less memory: set chunk_size, to a number or to 'auto' with memory_budget",
    ),
)
_MEMORY = _HINTS[-1][0]


def hint_for(error: BaseException) -> str:
    """What may help against `error`, or ""."""
    text = str(error)
    if isinstance(error, MemoryError):
        return _HINTS[-1][1]
    return next((hint for signs, hint in _HINTS if any(sign in text for sign in signs)), "")


def narrowed(outcome: Outcome, run: Callable[[int, int], object]) -> Outcome:
    """The outcome, with the first sample that fails where running some of them again can tell.

    `run` maps the samples from one local index to another; together it maps at most about twice as many as
    failed. Where the error does not come again, the samples stay as they are.
    """
    error = outcome.error
    if not isinstance(error, Exception) or not outcome.in_func or _is_about_memory(error):
        return outcome
    start, stop = outcome.start, outcome.stop

    def fails(first: int, last: int) -> bool:
        try:
            run(first, last)
        except KeyboardInterrupt:
            raise
        except BaseException as again:  # also a sys.exit() this time: the other ranks wait
            return type(again) is type(error)
        return False

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
    return Outcome(None, error, start, stop)


def _is_about_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _MEMORY)


def doing(outcome: Outcome, samples: Layout, rank: int) -> tuple[str, range]:
    """What this rank was doing when it failed, for a sentence, and the global samples it was mapping."""
    if samples.size == 0:
        return "inferring the outputs of a batch without samples", range(0)
    first = samples.span(rank)[0]
    which = range(first + outcome.start, first + outcome.stop)
    named = f"sample {which[0]}" if len(which) == 1 else f"samples {which[0]} to {which[-1]}"
    return f"mapping {named} of {samples.size}", which
