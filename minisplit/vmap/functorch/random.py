"""Torch's random functions inside of a mapped function: numbers that depend on the sample alone.

Each number is a function of the seed, the call of the mapped function, the global index of its sample, the
position of the random function among those that the mapped function calls, and its place in what that one returns.
So it does not matter which rank draws it, nor in which chunk. Torch's own generators are not used.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from minisplit.core.error_text import said_by
from minisplit.core.random import sampling
from minisplit.core.random.grids import DRAW, SampleGrid
from minisplit.core.random.philox import DrawKey, fold
from minisplit.core.random.sampling import Sampler
from minisplit.vmap.functorch import distributions, internals
from minisplit.vmap.functorch.composites import body_of

# Part of the text of torch's error for a random function in a vmap of randomness "error".
_REFUSED = "random operation while in randomness error mode"
# The second number that `fold` gets, as those of `grids`, for keys of another kind: the seeds of samples.
_SEED = 3
# Of SELU networks: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
_SELU = 1.7580993408473766


class RandomSource(NamedTuple):
    """From what the random functions of one mapped call take their numbers on one rank.

    `key` is that of the call, None where no numbers are needed, since outputs are inferred. If `same`, all samples
    get the numbers of the first sample of the batch. `first` is the global index of the rank's first sample.
    """

    key: DrawKey | None
    same: bool
    first: int = 0

    @contextmanager
    def replace_random_functions(self, start: int, samples: int, level: int) -> Iterator[None]:
        """Replace what random functions return while a vmap of this level maps samples from local `start` on."""
        mode = _RandomFunctions(self, self.first + start, samples, level)
        if self.key is None:
            with mode:
                yield
            return
        # torch.manual_seed and the like draw nothing, so that no rule sees them.
        before = mode.before = torch.get_rng_state()
        try:
            with mode:
                yield
        finally:
            after = torch.get_rng_state()
            is_changed = not torch.equal(before, after)
            if is_changed:
                torch.set_rng_state(before)
        if is_changed:
            mode.check_state(bytes_of(after))

    @contextmanager
    def replace_for_one(self, start: int, level: int, generators: Sequence[torch.Generator]) -> Iterator[None]:
        """Replace what random functions return while the function runs for one sample, local number `start`.

        It is not mapped, so there is no vmap, but `level` levels of torch.func around it. It draws the same as in
        a map. What has no rule draws from torch's own `generators`, which are seeded for the sample meanwhile.
        """
        mode = _RandomFunctions(self, self.first + start, 1, level, is_mapped=False)
        if self.key is None:
            with mode:
                yield
            return
        low, high = fold(self.key, mode.first, _SEED)
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(low | high << 32)
            with mode:
                yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)


class _RandomFunctions(TorchFunctionMode):
    """Replaces what torch's random functions return, by rules that are in a table.

    The vmap beneath is told to refuse random functions, so a function that has no rule raises, if there is one.
    """

    def __init__(self, source: RandomSource, first: int, samples: int, level: int, is_mapped: bool = True) -> None:
        super().__init__()
        self.source, self.level, self.is_mapped = source, level, is_mapped
        self.first, self.samples = (0, 1) if source.same else (first, samples)
        self.position = 0  # of the next draw
        # Of draws whose position goes with the state of torch's generator: see `_next_position`.
        self.before: torch.Tensor | None = None
        self.positions: dict[bytes, int] = {}
        self.states: set[bytes] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            raise RuntimeError(
                f"torch's {_name(func)} with generator= inside of minisplit.vmap: a torch.Generator is in another "
                "state on each rank and after each chunk; leave it out, and seed by minisplit.random.seed"
            )
        rule = _RULES.get(func)
        if rule is None:
            body = body_of(func)
            if body is not None:
                with self:
                    return body(*args, **kwargs)
            try:
                return func(*args, **kwargs)
            except RuntimeError as error:
                if _REFUSED not in said_by(error):
                    raise
                raise RuntimeError(
                    f"torch's {_name(func)} draws random numbers, but minisplit.vmap has no rule for it, and "
                    "torch's own numbers would be others on each number of ranks"
                ) from error
        if kwargs.get("out") is not None:
            raise RuntimeError(f"torch's {_name(func)} with out= cannot be mapped: use what it returns")
        return rule(self, *args, **{name: x for name, x in kwargs.items() if name not in {"generator", "out"}})

    def draw(self, sampler: Sampler, shape: Sequence[int], dtype: torch.dtype, device: Any) -> torch.Tensor:
        """Draw numbers of that shape for each sample."""
        # With "same" the numbers of one sample serve all, and are not mapped over the samples.
        outer = [] if self.source.same or not self.is_mapped else [(self.level, self.samples)]
        inner, is_repeated = self._inner_levels()
        device = torch.get_default_device() if device is None else torch.device(device)
        each = math.prod(size for _, size in inner) * math.prod(shape)
        with internals.temporarily_clear_interpreter_stack():
            with internals.DisableTorchFunction():
                numbers = self._numbers(sampler, self._next_position(is_repeated), each, dtype, device)
            # Torch functions are on again, so that the tuner of chunk sizes counts the memory of the numbers.
            numbers = numbers.view([*(size for _, size in outer + inner), *shape])
        for level, _ in outer + inner:
            numbers = internals.add_batch_dim(numbers, 0, level)
        return numbers

    @property
    def samples_alike(self) -> bool:
        """Whether all samples get the same numbers."""
        return self.source.same

    def next_key(self) -> DrawKey | None:
        """The key of the next draw; None for tensors without data."""
        position = self._next_position(is_repeated=False)
        return None if self.source.key is None else fold(self.source.key, position, DRAW)

    def fill(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Copy numbers into a tensor, which must be mapped where they differ between samples."""
        if not internals.mapped_levels(numbers) <= internals.mapped_levels(x):
            raise RuntimeError(
                "vmap: a random function cannot change in place a tensor that is the same for all samples, "
                'because with randomness="different" each sample draws its own numbers'
            )
        return x.copy_(numbers)

    def check_state(self, state: bytes) -> None:
        """RuntimeError if torch's generator is in a state that the function has brought it into."""
        if state not in self.states:
            raise RuntimeError(
                "func has changed the state of torch's random generator, from which each rank and each chunk "
                "would draw for itself: draw by torch's own functions, and seed by minisplit.random.seed"
            )

    def _next_position(self, is_repeated: bool) -> int:
        """The position of the next draw. `is_repeated` says that chunks of a nested vmap are to draw the same.

        Of them nobody tells this mode, but `torch.vmap(randomness="same", chunk_size=...)` sets torch's generator
        back before each. So the generator goes on with each such draw, and each of its states has a position.
        """
        if not is_repeated or self.source.key is None:
            position = self.position
        else:
            state = bytes_of(torch.get_rng_state())
            if not self.states and self.before is not None:
                self.states.add(bytes_of(self.before))
            if self.is_mapped:
                self.check_state(state)
            position = self.positions.setdefault(state, self.position)
            torch.rand(())
            self.states.add(bytes_of(torch.get_rng_state()))
        self.position = max(self.position, position + 1)
        return position

    def _numbers(
        self, sampler: Sampler, position: int, each: int, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """A row of `each` numbers for each sample."""
        if self.source.key is None:  # tensors without data
            return torch.zeros((self.samples, each), dtype=dtype, device=device)
        key = fold(self.source.key, position, DRAW)
        return sampler(SampleGrid(key, self.samples, each, self.first), dtype, device)

    def _inner_levels(self) -> tuple[list[tuple[int, int]], bool]:
        """Level and size of each `torch.vmap` within the mapped function whose samples are to differ.

        And whether there is one whose samples are not to.
        """
        levels, has_same = [], False
        for interpreter in internals.get_interpreter_stack() or ():
            if interpreter.level() <= self.level or interpreter.key() != internals.TransformType.Vmap:
                continue
            vmap = internals.CVmapInterpreterPtr(interpreter)
            if vmap.randomness() == internals.RandomnessType.Error:
                raise RuntimeError(
                    f"vmap: called {_REFUSED}: that of the torch.vmap (or jacrev, hessian ...) within func, which "
                    "takes randomness= as well"
                )
            if vmap.randomness() == internals.RandomnessType.Different:
                levels.append((interpreter.level(), vmap.batchSize()))
            else:
                has_same = True
        return levels, has_same


def bytes_of(state: torch.Tensor) -> bytes:
    """The state of a generator as what can be compared and looked up."""
    if not internals.levels():
        return state.numpy().tobytes()
    with internals.temporarily_clear_interpreter_stack():  # within a transform no tensor has memory
        return state.numpy().tobytes()


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func))


# The rules. Each takes the mode, and then what its function of torch takes, without `generator` and `out`.


def _size(given: tuple[Any, ...], size: Any) -> Sequence[int]:
    """The size that a function was given: as numbers, as one sequence, or by keyword."""
    shape = given if size is None else size
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = shape[0]
    return [int(extent) for extent in shape]


def _creation_rule(sampler: Sampler) -> Callable[..., torch.Tensor]:
    """A rule for a function that makes a tensor of a given size, as `torch.rand`."""

    def rule(
        mode: _RandomFunctions,
        *shape: Any,
        size: Any = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        **_: Any,  # layout, pin_memory, memory_format: no matter here
    ) -> torch.Tensor:
        numbers = mode.draw(sampler, _size(shape, size), dtype or torch.get_default_dtype(), device)
        return numbers.requires_grad_() if requires_grad else numbers

    return rule


def _like_rule(sampler: Sampler) -> Callable[..., torch.Tensor]:
    """A rule for a function that makes a tensor like another one, as `torch.rand_like`."""

    create = _creation_rule(sampler)

    def rule(
        mode: _RandomFunctions, input: torch.Tensor, *, dtype: Any = None, device: Any = None, **kwargs: Any
    ) -> torch.Tensor:
        return create(mode, size=input.shape, dtype=dtype or input.dtype, device=device or input.device, **kwargs)

    return rule


# randint(high, size), randint(low, high, size), and the same by keyword.
def _randint(
    mode: _RandomFunctions, *args: Any, low: Any = None, high: Any = None, size: Any = None, **kwargs: Any
) -> Any:
    *bounds, size = args if size is None else (*args, size)
    dtype = kwargs.pop("dtype", None) or torch.int64
    return _creation_rule(_integers(bounds, low, high))(mode, size=size, dtype=dtype, **kwargs)


def _randint_like(
    mode: _RandomFunctions, input: torch.Tensor, *args: Any, low: Any = None, high: Any = None, **kwargs: Any
) -> Any:
    return _like_rule(_integers(args, low, high))(mode, input, **kwargs)


def _require(condition: bool, rule: str, *given: object) -> None:
    """RuntimeError, as torch raises it, where the arguments of a random function break a rule."""
    if not condition:
        raise RuntimeError(f"{rule}, got {' and '.join(map(str, given))}")


def _integers(given: Sequence[Any], low: Any, high: Any) -> Sampler:
    """A sampler of integers. The bounds are `given` by place, as (high,) or (low, high), or by keyword."""
    bounds = list(given)
    high = int(bounds.pop() if high is None else high)
    low = int(bounds.pop() if bounds else low or 0)
    _require(low < high, "low must be below high", low, high)
    return lambda grid, dtype, device: sampling.integers(grid, low, high, device).to(dtype)


def _randperm(
    mode: _RandomFunctions, n: int, *, dtype: torch.dtype = torch.int64, device: Any = None, **_: Any
) -> Any:
    # The order of independent numbers is a random permutation.
    return mode.draw(sampling.exponential, [n], torch.float64, device).argsort(stable=True).to(dtype)


def _normal(mode: _RandomFunctions, mean: Any = 0.0, std: Any = 1.0, size: Any = None, **kwargs: Any) -> Any:
    _require(isinstance(std, torch.Tensor) or std >= 0, "std of normal must not be negative", std)
    tensors = [x for x in (mean, std) if isinstance(x, torch.Tensor)]
    if not tensors:
        return _creation_rule(sampling.normal)(mode, size=size, **kwargs) * std + mean
    shape = torch.broadcast_shapes(*[x.shape for x in tensors])  # type: ignore[no-untyped-call]
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in tensors])
    return mode.draw(sampling.normal, shape, dtype, tensors[0].device) * std + mean


def _bernoulli_like(mode: _RandomFunctions, p: Any, like: torch.Tensor) -> torch.Tensor:
    """1 with probability `p`, a number or a tensor, and else 0, of the shape, dtype and device of a tensor."""
    if isinstance(p, torch.Tensor):
        fine = torch.float64 if p.dtype is torch.float64 else torch.float32
        return mode.draw(sampling.uniform, like.shape, fine, like.device).lt(p).to(like.dtype)
    _require(0 <= p <= 1, "p must be from 0 to 1", p)
    return mode.draw(_bernoulli_sampler(float(p)), like.shape, like.dtype, like.device)


def _bernoulli_sampler(p: float) -> Sampler:
    return lambda grid, dtype, device: sampling.bernoulli(grid, p, device).to(dtype)


def _bernoulli(mode: _RandomFunctions, input: torch.Tensor, p: Any = None) -> torch.Tensor:
    return _bernoulli_like(mode, input if p is None else p, input)


def _bernoulli_(mode: _RandomFunctions, input: torch.Tensor, p: Any = 0.5) -> torch.Tensor:
    return mode.fill(input, _bernoulli_like(mode, p, input))


def _random_(
    mode: _RandomFunctions, input: torch.Tensor, *args: Any, to: Any = None, **kwargs: Any
) -> torch.Tensor:
    numbers = list(args)
    if to is None and numbers:
        to = numbers.pop()
    low = numbers.pop() if numbers else kwargs.get("from")
    dtype = input.dtype
    if to is None:
        if dtype.is_floating_point:  # the integers that the dtype has all of, as torch does
            to = int(2 / torch.finfo(dtype).eps) + 1
        else:
            to = 2 if dtype is torch.bool else torch.iinfo(dtype).max + 1
    return mode.fill(input, mode.draw(_integers((), low, to), input.shape, dtype, input.device))


def _clamp_(mode: _RandomFunctions, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    # Not random, but the gamma distribution calls it, and torch has no batching rule for it, which it warns of.
    return input.copy_(input.clamp(*args, **kwargs))


def _in_place_rule(sampler_of: Callable[..., Sampler]) -> Callable[..., torch.Tensor]:
    """A rule for a method that fills a tensor, from a function that makes a sampler of the method's arguments."""

    def rule(mode: _RandomFunctions, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # `from` is no name that a function of Python can have.
        sampler = sampler_of(*args, **{name.replace("from", "low"): x for name, x in kwargs.items()})
        return mode.fill(input, mode.draw(sampler, input.shape, input.dtype, input.device))

    return rule


def _normal_(mean: float = 0.0, std: float = 1.0) -> Sampler:
    _require(std >= 0, "std of normal_ must not be negative", std)
    return lambda *where: sampling.normal(*where).mul_(std).add_(mean)


def _uniform_(low: float = 0.0, to: float = 1.0) -> Sampler:
    _require(low <= to, "uniform_ needs numbers with from <= to", low, to)
    return lambda *where: sampling.scale(sampling.uniform(*where), low, to)


def _exponential_(lambd: float = 1.0) -> Sampler:
    _require(lambd > 0, "lambd of exponential_ must be positive", lambd)
    return lambda *where: sampling.exponential(*where).div_(lambd)


def _log_normal_(mean: float = 1.0, std: float = 2.0) -> Sampler:
    _require(std > 0, "std of log_normal_ must be positive", std)
    return lambda grid, dtype, device: sampling.log_normal(grid, dtype, device, mean, std)


def _cauchy_(median: float = 0.0, sigma: float = 1.0) -> Sampler:
    return lambda *where: sampling.cauchy(*where).mul_(sigma).add_(median)


def _geometric_(p: float) -> Sampler:
    _require(0 < p < 1, "p of geometric_ must be above 0 and below 1", p)
    scale = -math.log1p(-p)
    return lambda grid, dtype, device: (
        sampling.exponential(grid, torch.float64, device).div_(scale).ceil_().to(dtype)
    )


def _multinomial(
    mode: _RandomFunctions, input: torch.Tensor, num_samples: int, replacement: bool = False
) -> torch.Tensor:
    """With replacement by the cumulated probabilities; without, those with the shortest waiting times.

    Of exponential waiting times with these rates the order is that of drawing without replacement.
    """
    shape, kinds = input.shape[:-1], input.shape[-1]
    enough = replacement or num_samples <= kinds
    _require(enough, f"num_samples must be at most {kinds} without replacement", num_samples)
    if replacement:
        numbers = mode.draw(sampling.uniform, [*shape, num_samples], torch.float64, input.device)
        shares = sampling.cumulative_shares(input)
        # Plus zeros of the other: where only one of the two is mapped, torch would copy with a warning.
        return torch.searchsorted(shares + 0 * numbers[..., :1], numbers + 0 * shares[..., :1], right=True)
    waiting = mode.draw(sampling.exponential, [*shape, kinds], torch.float64, input.device)
    return (waiting / input).argsort(dim=-1, stable=True)[..., :num_samples]


def _dropout_rule(
    channels: bool = False, unbatched: int | None = None, alpha: bool = False
) -> Callable[..., torch.Tensor]:
    """A rule for dropout of elements, or of whole `channels`: axis 1, or axis 0 where there are `unbatched` axes.

    With `alpha` it keeps mean and variance of what comes out of SELU; these functions do nothing unless told that
    they are in training.
    """

    def rule(
        mode: _RandomFunctions,
        input: torch.Tensor,
        p: float = 0.5,
        training: bool = not alpha,
        inplace: bool = False,
    ) -> torch.Tensor:
        if not 0 <= p <= 1:
            raise ValueError(f"p of dropout must be from 0 to 1, got {p}")
        if not training or p == 0:
            return input
        axes = input.ndim if not channels else 1 if input.ndim == unbatched else 2
        shape = [*input.shape[:axes], *[1] * (input.ndim - axes)]
        kept = mode.draw(_bernoulli_sampler(1 - p), shape, input.dtype, input.device)
        if p == 1:
            result = input * 0  # the scale below would be infinite
        elif alpha:
            a = 1 / math.sqrt((_SELU**2 * p + 1) * (1 - p))
            result = input * (kept * a) + (kept - 1) * (_SELU * a) + _SELU * a * p
        else:
            result = input * (kept / (1 - p))
        return mode.fill(input, result) if inplace else result

    return rule


def _attention(
    mode: _RandomFunctions,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Attention as torch documents it, step by step where its weights are dropped out."""
    if not dropout_p:
        options: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
        return F.scaled_dot_product_attention(query, key, value, attn_mask, 0.0, is_causal, **options)
    if enable_gqa:
        key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
    scores = query @ key.mT * (1 / math.sqrt(query.size(-1)) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        is_bool = attn_mask.dtype is torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if is_bool else scores + attn_mask
    return _dropout_rule()(mode, scores.softmax(-1), dropout_p, True) @ value


def _positional_rule(rule: Callable[..., torch.Tensor], inplace: bool = False) -> Callable[..., torch.Tensor]:
    """A rule for torch's own function, which takes (input, p, train), from that of torch.nn.functional."""

    def positional(mode: _RandomFunctions, input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        return rule(mode, input, p, train, inplace)

    return positional


_RULES: dict[Any, Callable[..., torch.Tensor]] = {
    torch.rand: _creation_rule(sampling.uniform),
    torch.randn: _creation_rule(sampling.normal),
    torch.rand_like: _like_rule(sampling.uniform),
    torch.randn_like: _like_rule(sampling.normal),
    torch.randint: _randint,
    torch.randint_like: _randint_like,
    torch.randperm: _randperm,
    torch.normal: _normal,
    torch.bernoulli: _bernoulli,
    torch.Tensor.bernoulli: _bernoulli,
    torch._standard_gamma: distributions.standard_gamma,
    torch.poisson: distributions.poisson,
    torch.binomial: distributions.binomial,
    torch.Tensor.clamp_: _clamp_,
    torch.multinomial: _multinomial,
    torch.Tensor.multinomial: _multinomial,
    torch.Tensor.bernoulli_: _bernoulli_,
    torch.Tensor.random_: _random_,
    torch.Tensor.normal_: _in_place_rule(_normal_),
    torch.Tensor.uniform_: _in_place_rule(_uniform_),
    torch.Tensor.exponential_: _in_place_rule(_exponential_),
    torch.Tensor.log_normal_: _in_place_rule(_log_normal_),
    torch.Tensor.cauchy_: _in_place_rule(_cauchy_),
    torch.Tensor.geometric_: _in_place_rule(_geometric_),
    F.scaled_dot_product_attention: _attention,
    F.dropout: _dropout_rule(),
    F.dropout1d: _dropout_rule(channels=True, unbatched=2),
    F.dropout2d: _dropout_rule(channels=True),
    F.dropout3d: _dropout_rule(channels=True, unbatched=4),
    F.alpha_dropout: _dropout_rule(alpha=True),
    F.feature_alpha_dropout: _dropout_rule(channels=True, alpha=True),
    torch.dropout: _positional_rule(_dropout_rule()),
    torch.dropout_: _positional_rule(_dropout_rule(), inplace=True),
    torch.feature_dropout: _positional_rule(_dropout_rule(channels=True)),
    torch.feature_dropout_: _positional_rule(_dropout_rule(channels=True), inplace=True),
    torch.alpha_dropout: _positional_rule(_dropout_rule(alpha=True)),
    torch.alpha_dropout_: _positional_rule(_dropout_rule(alpha=True), inplace=True),
    torch.feature_alpha_dropout: _positional_rule(_dropout_rule(channels=True, alpha=True)),
    torch.feature_alpha_dropout_: _positional_rule(_dropout_rule(channels=True, alpha=True), inplace=True),
}
