"""What torch's random functions draw inside of a mapped function: numbers that know their sample.

Each number is a function of the seed, the call of the mapped function, the global index of its sample, the
position of the draw among those of the function, and its place in what is drawn. So it does not matter which rank
draws it, nor in which chunk. Torch's own generators are not used; the level of `torch.vmap` beneath is told to
refuse random functions, so that one without a rule here is an error.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch._C import _functorch as functorch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode

from minisplit.core.random import sampling
from minisplit.core.random.philox import Key, fold
from minisplit.core.random.sampling import IndexGrid

# Makes numbers of this dtype.
Draw = Callable[[IndexGrid, torch.dtype, torch.device], torch.Tensor]
_REFUSED = "random operation while in randomness error mode"
# Of SELU networks: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
_SELU = 1.7580993408473766


class Source(NamedTuple):
    """What the mapped functions of one call and one rank draw from.

    `key` is that of the call, None where nothing is to be drawn: outputs are inferred. `same`: all samples
    draw what the first of the batch does. `first` is the global index of the rank's first sample.
    """

    key: Key | None
    same: bool
    first: int = 0

    @contextmanager
    def drawing(self, start: int, samples: int, level: int) -> Iterator[None]:
        """Draw from here while the vmap of this level maps a function over samples from local `start` on."""
        before = None if self.key is None else torch.get_rng_state()
        with _Draws(self, self.first + start, samples, level):
            yield
        if before is not None and not torch.equal(before, torch.get_rng_state()):
            torch.set_rng_state(before)
            raise RuntimeError(
                "func has changed the state of torch's random generator, from which each rank and each chunk "
                "would draw for itself: draw by torch's own functions, and seed by minisplit.random.seed"
            )


class _Draws(TorchFunctionMode):
    """Replaces what random functions return."""

    def __init__(self, source: Source, first: int, samples: int, level: int) -> None:
        super().__init__()
        self.source, self.level = source, level
        self.first, self.samples = (0, 1) if source.same else (first, samples)
        self.position = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            raise RuntimeError(
                f"torch's {_name(func)} with generator= inside of minisplit.vmap: a torch.Generator is in another "
                "state on each rank and after each chunk; leave it out, and seed by minisplit.random.seed"
            )
        rule = _RULES.get(func)
        if rule is None:
            try:
                return func(*args, **kwargs)
            except RuntimeError as error:
                if _REFUSED not in str(error):
                    raise
                raise RuntimeError(
                    f"torch's {_name(func)} draws random numbers, but minisplit.vmap has no rule for it, and "
                    "torch's own numbers would be others on each number of ranks"
                ) from error
        if kwargs.get("out") is not None:
            raise RuntimeError(f"torch's {_name(func)} with out= cannot be mapped: use what it returns")
        return rule(self, *args, **{name: x for name, x in kwargs.items() if name not in {"generator", "out"}})

    def draw(self, draw: Draw, shape: Sequence[int], dtype: torch.dtype, device: Any) -> torch.Tensor:
        """Numbers of that shape for each sample."""
        inner = self._inner_levels()
        device = torch.get_default_device() if device is None else torch.device(device)
        sizes = [size for _, size in inner]
        each = math.prod(sizes) * math.prod(shape)
        with temporarily_clear_interpreter_stack():
            with torch._C.DisableTorchFunction():
                drawn = self._drawn(draw, each, dtype, device)
            # Outside, so that who weighs what torch's functions return sees it.
            drawn = drawn.view([*([] if self.source.same else [self.samples]), *sizes, *shape])
        self.position += 1
        for level in [*([] if self.source.same else [self.level]), *(level for level, _ in inner)]:
            drawn = functorch._add_batch_dim(drawn, 0, level)
        return drawn

    def put(self, drawn: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Put numbers into a tensor, which must be mapped where they differ."""
        if not _levels_of(drawn) <= _levels_of(x):
            raise RuntimeError(
                "vmap: a random function was to change in place a tensor that is the same for all samples, but "
                'with randomness="different" each of them draws other numbers'
            )
        return x.copy_(drawn)

    def _drawn(self, draw: Draw, each: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        if self.source.key is None:
            return torch.zeros((self.samples, each), dtype=dtype, device=device)
        key = fold(self.source.key, self.position, sampling.DRAW)
        return draw(sampling.batch_grid(key, self.samples, each, self.first), dtype, device)

    def _inner_levels(self) -> list[tuple[int, int]]:
        """Level and size of each `torch.vmap` within the mapped function whose samples are to draw differently."""
        found = []
        for interpreter in functorch.get_interpreter_stack() or ():
            if interpreter.level() <= self.level or interpreter.key() != functorch.TransformType.Vmap:
                continue
            vmap = functorch.CVmapInterpreterPtr(interpreter)
            if vmap.randomness() == functorch.RandomnessType.Error:
                raise RuntimeError(
                    f"vmap: called {_REFUSED}: that of the torch.vmap (or jacrev, hessian ...) within func, which "
                    "takes randomness= as well"
                )
            if vmap.randomness() == functorch.RandomnessType.Different:
                found.append((interpreter.level(), vmap.batchSize()))
        return found


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func))


def _levels_of(x: torch.Tensor) -> set[int]:
    """The levels of `vmap` at which a tensor is mapped."""
    levels = set()
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            levels.add(functorch.maybe_get_level(x))
        x = functorch.get_unwrapped(x)
    return levels


# The rules. Each takes what its function of torch takes, but for `generator` and `out`.


def _size(given: tuple[Any, ...], size: Any) -> Sequence[int]:
    shape = given if size is None else size
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = shape[0]
    return [int(extent) for extent in shape]


def _factory(draw: Draw) -> Callable[..., torch.Tensor]:
    def rule(
        draws: _Draws,
        *shape: Any,
        size: Any = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        **_: Any,
    ) -> torch.Tensor:
        drawn = draws.draw(draw, _size(shape, size), dtype or torch.get_default_dtype(), device)
        return drawn.requires_grad_() if requires_grad else drawn

    return rule


def _like(draw: Draw) -> Callable[..., torch.Tensor]:
    def rule(
        draws: _Draws,
        input: torch.Tensor,
        *,
        dtype: torch.dtype | None = None,
        device: Any = None,
        requires_grad: bool = False,
        **_: Any,
    ) -> torch.Tensor:
        drawn = draws.draw(draw, input.shape, dtype or input.dtype, device or input.device)
        return drawn.requires_grad_() if requires_grad else drawn

    return rule


def _randint(draws: _Draws, *args: Any, low: Any = None, high: Any = None, size: Any = None, **kwargs: Any) -> Any:
    numbers = list(args)
    size = numbers.pop() if size is None else size
    high = numbers.pop() if high is None else high
    low = numbers.pop() if numbers else low or 0
    return draws.draw(
        _integers(low, high), _size((), size), kwargs.get("dtype") or torch.int64, kwargs.get("device")
    )


def _randint_like(
    draws: _Draws, input: torch.Tensor, *args: Any, low: Any = 0, high: Any = None, **kwargs: Any
) -> Any:
    numbers = list(args)
    high = numbers.pop() if high is None else high
    low = numbers.pop() if numbers else low
    return _like(_integers(low, high))(draws, input, **kwargs)


def _integers(low: Any, high: Any) -> Draw:
    low, high = int(low), int(high)
    if not low < high:
        raise RuntimeError(f"low must be below high, got {low} and {high}")
    return lambda field, dtype, device: sampling.integers(field, low, high, device).to(dtype)


def _randperm(draws: _Draws, n: int, *, dtype: torch.dtype = torch.int64, device: Any = None, **_: Any) -> Any:
    return draws.draw(sampling.exponential, [n], torch.float64, device).argsort(stable=True).to(dtype)


def _normal(draws: _Draws, mean: Any = 0.0, std: Any = 1.0, size: Any = None, **kwargs: Any) -> Any:
    if not isinstance(std, torch.Tensor) and not std >= 0:
        raise RuntimeError(f"std of normal must not be negative, got {std}")
    tensors = [x for x in (mean, std) if isinstance(x, torch.Tensor)]
    if not tensors:
        return _factory(sampling.normal)(draws, size=size, **kwargs) * std + mean
    shape = torch.broadcast_shapes(*[x.shape for x in tensors])  # type: ignore[no-untyped-call]
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in tensors])
    return draws.draw(sampling.normal, shape, dtype, tensors[0].device) * std + mean


def _chances(draws: _Draws, p: Any, like: torch.Tensor) -> torch.Tensor:
    """1 with probability `p`, a number or a tensor, and else 0, of the shape, dtype and device of a tensor."""
    if isinstance(p, torch.Tensor):
        fine = torch.float64 if p.dtype is torch.float64 else torch.float32
        return draws.draw(sampling.uniform, like.shape, fine, like.device).lt(p).to(like.dtype)
    if not 0 <= p <= 1:
        raise RuntimeError(f"p must be from 0 to 1, got {p}")
    return draws.draw(
        lambda field, dtype, device: sampling.bernoulli(field, float(p), device).to(dtype),
        like.shape,
        like.dtype,
        like.device,
    )


def _bernoulli(draws: _Draws, input: torch.Tensor, p: Any = None) -> torch.Tensor:
    return _chances(draws, input if p is None else p, input)


def _bernoulli_(draws: _Draws, input: torch.Tensor, p: Any = 0.5) -> torch.Tensor:
    return draws.put(_chances(draws, p, input), input)


def _random_(draws: _Draws, input: torch.Tensor, *args: Any, to: Any = None, **kwargs: Any) -> torch.Tensor:
    numbers = list(args)
    if to is None and numbers:
        to = numbers.pop()
    low = numbers.pop() if numbers else kwargs.get("from", 0)
    dtype = input.dtype
    if to is not None:
        high = int(to)
    elif dtype.is_floating_point:
        high = int(2 / torch.finfo(dtype).eps) + 1
    else:
        high = 2 if dtype is torch.bool else torch.iinfo(dtype).max + 1
    return draws.put(draws.draw(_integers(low, high), input.shape, dtype, input.device), input)


def _in_place(draw: Callable[..., Draw]) -> Callable[..., torch.Tensor]:
    """A rule from what makes a draw of the function's arguments."""

    def rule(draws: _Draws, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        of = draw(*args, **{name.replace("from", "low"): x for name, x in kwargs.items()})
        return draws.put(draws.draw(of, input.shape, input.dtype, input.device), input)

    return rule


def _normal_(mean: float = 0.0, std: float = 1.0) -> Draw:
    if not std >= 0:
        raise RuntimeError(f"std of normal_ must not be negative, got {std}")
    return lambda *where: sampling.normal(*where).mul_(std).add_(mean)


def _uniform_(low: float = 0.0, to: float = 1.0) -> Draw:
    if not low <= to:
        raise RuntimeError(f"uniform_ needs numbers with from <= to, got {low} and {to}")
    return lambda *where: sampling.scale(sampling.uniform(*where), low, to)


def _exponential_(lambd: float = 1.0) -> Draw:
    if not lambd > 0:
        raise RuntimeError(f"lambd of exponential_ must be positive, got {lambd}")
    return lambda *where: sampling.exponential(*where).div_(lambd)


def _log_normal_(mean: float = 1.0, std: float = 2.0) -> Draw:
    if not std > 0:
        raise RuntimeError(f"std of log_normal_ must be positive, got {std}")
    return lambda field, dtype, device: sampling.log_normal(field, dtype, device, mean, std)


def _cauchy_(median: float = 0.0, sigma: float = 1.0) -> Draw:
    return lambda *where: sampling.cauchy(*where).mul_(sigma).add_(median)


def _geometric_(p: float) -> Draw:
    if not 0 < p < 1:
        raise RuntimeError(f"p of geometric_ must be above 0 and below 1, got {p}")
    scale = -math.log1p(-p)
    return lambda field, dtype, device: (
        sampling.exponential(field, torch.float64, device).div_(scale).ceil_().to(dtype)
    )


def _multinomial(draws: _Draws, input: torch.Tensor, num_samples: int, replacement: bool = False) -> torch.Tensor:
    """With replacement by the cumulated probabilities; without, the shortest waiting times of these rates."""
    shape, kinds = input.shape[:-1], input.shape[-1]
    if not replacement and num_samples > kinds:
        raise RuntimeError(f"num_samples must be at most {kinds} without replacement, got {num_samples}")
    if replacement:
        drawn = draws.draw(sampling.uniform, [*shape, num_samples], torch.float64, input.device)
        shares = sampling.cumulative_shares(input)
        # Plus nothing, where only one of them is mapped: torch would copy it for each sample with a warning.
        return torch.searchsorted(shares + 0 * drawn[..., :1], drawn + 0 * shares[..., :1], right=True)
    waiting = draws.draw(sampling.exponential, [*shape, kinds], torch.float64, input.device)
    return (waiting / input).argsort(dim=-1, stable=True)[..., :num_samples]


def _dropout(
    draws: _Draws, input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    return _dropped(draws, input, p, training, inplace, input.shape)


def _features(unbatched: int | None) -> Callable[..., torch.Tensor]:
    """Dropout of whole channels: axis 1 of a batch, or axis 0 of what has `unbatched` axes."""

    def rule(
        draws: _Draws, input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        kept = 1 if input.ndim == unbatched else 2
        shape = [*input.shape[:kept], *[1] * (input.ndim - kept)]
        return _dropped(draws, input, p, training, inplace, shape)

    return rule


def _alpha(features: bool = False) -> Callable[..., torch.Tensor]:
    """Dropout that keeps mean and variance of what comes out of SELU."""

    def rule(
        draws: _Draws, input: torch.Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
    ) -> torch.Tensor:
        shape = [*input.shape[:2], *[1] * (input.ndim - 2)] if features else input.shape
        return _dropped(draws, input, p, training, inplace, shape, alpha=True)

    return rule


def _dropped(
    draws: _Draws,
    input: torch.Tensor,
    p: float,
    training: bool,
    inplace: bool,
    shape: Sequence[int],
    alpha: bool = False,
) -> torch.Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"p of dropout must be from 0 to 1, got {p}")
    if not training or p == 0:
        return input
    kept = draws.draw(
        lambda field, dtype, device: sampling.bernoulli(field, 1 - p, device).to(dtype),
        shape,
        input.dtype,
        input.device,
    )
    if p == 1:
        result = input * 0
    elif alpha:
        a = 1 / math.sqrt((_SELU**2 * p + 1) * (1 - p))
        result = input * (kept * a) + (kept - 1) * (_SELU * a) + _SELU * a * p
    else:
        result = input * (kept / (1 - p))
    return draws.put(result, input) if inplace else result


def _of_torch(rule: Callable[..., torch.Tensor], inplace: bool = False) -> Callable[..., torch.Tensor]:
    """A rule of torch.nn.functional for torch's own function, which takes (input, p, train)."""

    def own(draws: _Draws, input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        return rule(draws, input, p, train, inplace)

    return own


_RULES: dict[Any, Callable[..., torch.Tensor]] = {
    torch.rand: _factory(sampling.uniform),
    torch.randn: _factory(sampling.normal),
    torch.rand_like: _like(sampling.uniform),
    torch.randn_like: _like(sampling.normal),
    torch.randint: _randint,
    torch.randint_like: _randint_like,
    torch.randperm: _randperm,
    torch.normal: _normal,
    torch.bernoulli: _bernoulli,
    torch.Tensor.bernoulli: _bernoulli,
    torch.multinomial: _multinomial,
    torch.Tensor.multinomial: _multinomial,
    torch.Tensor.bernoulli_: _bernoulli_,
    torch.Tensor.random_: _random_,
    torch.Tensor.normal_: _in_place(_normal_),
    torch.Tensor.uniform_: _in_place(_uniform_),
    torch.Tensor.exponential_: _in_place(_exponential_),
    torch.Tensor.log_normal_: _in_place(_log_normal_),
    torch.Tensor.cauchy_: _in_place(_cauchy_),
    torch.Tensor.geometric_: _in_place(_geometric_),
    F.dropout: _dropout,
    F.dropout1d: _features(2),
    F.dropout2d: _features(None),
    F.dropout3d: _features(4),
    F.alpha_dropout: _alpha(),
    F.feature_alpha_dropout: _alpha(features=True),
    torch.dropout: _of_torch(_dropout),
    torch.dropout_: _of_torch(_dropout, inplace=True),
    torch.feature_dropout: _of_torch(_features(None)),
    torch.feature_dropout_: _of_torch(_features(None), inplace=True),
    torch.alpha_dropout: _of_torch(_alpha()),
    torch.alpha_dropout_: _of_torch(_alpha(), inplace=True),
    torch.feature_alpha_dropout: _of_torch(_alpha(features=True)),
    torch.feature_alpha_dropout_: _of_torch(_alpha(features=True), inplace=True),
}
