"""Which numbers come next: seeds, streams, and how many calls have drawn from each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from minisplit.core.communication.debug import CollectiveError, debugging, texts_by_rank
from minisplit.core.communication.protocol import Communication, sanitize_comm
from minisplit.core.error_text import short_repr
from minisplit.core.inside_vmap import inside_vmap
from minisplit.core.layout import as_index
from minisplit.core.random.philox import Key, fold, words_of

_LIMIT = 2**64


class State(NamedTuple):
    """What the next call of a generator draws: a value, to be kept, compared, printed or pickled."""

    seed: int
    stream: int = 0
    call: int = 0


def _checked(state: State) -> State:
    """The state with plain ints; TypeError or ValueError for what is none."""
    if not isinstance(state, tuple) or len(state) != 3:
        raise TypeError(f"state must be what get_state() returns, got {short_repr(state)}")
    numbers = State(*(as_index(number, name) for number, name in zip(state, State._fields, strict=True)))
    for number, name in zip(numbers, State._fields, strict=True):
        if not 0 <= number < _LIMIT:
            raise ValueError(f"{name} must be from 0 to 2**64 - 1, got {number}")
    return numbers


class Generator:
    """A stream of random numbers of its own: `minisplit.random.rand(3, generator=g)`. Local.

    Two generators of the same seed and stream draw the same, of different seeds or streams independent numbers;
    both are numbers from 0 to 2^64 - 1. The functions of `minisplit.random` draw from one of stream 0 where no
    generator is given. Each call draws other numbers, which depend on seed, stream, call and shape alone: all
    ranks must make the same calls in the same order (debug mode compares).

    What has been drawn is known per thread or asynchronous task: it starts with what its creator had drawn where
    it takes over the creator's context, and from the first call else.

    Raises TypeError or ValueError where `seed` or `stream` are not such numbers.

    >>> import minisplit as ms
    >>> g, h = ms.random.Generator(5, stream=1), ms.random.Generator(5, stream=1)
    >>> ms.random.rand(3, generator=g).tolist() == ms.random.rand(3, generator=h).tolist()
    True
    >>> g.get_state()
    State(seed=5, stream=1, call=1)
    """

    __slots__ = ("_first", "_state")

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._first = _checked(State(seed, stream))
        self._state: ContextVar[State] = ContextVar("minisplit_random")

    def __repr__(self) -> str:
        state = self.get_state()
        return f"Generator({state.seed}, stream={state.stream}) after {state.call} calls"

    def __reduce__(self) -> Any:
        return _restored, (self.get_state(),)

    def seed(self, seed: int) -> None:
        """Start again from another seed, in the same stream. Local."""
        self.set_state(State(seed, self.get_state().stream))

    def get_state(self) -> State:
        """What the next call draws. Local."""
        return self._state.get(self._first)

    def set_state(self, state: State) -> None:
        """Go on from what `get_state` gave. Local; all ranks must do it."""
        self._state.set(_checked(state))

    def next_key(self, comm: Communication) -> Key:
        """The key of one call, and go on to the next. Local; collective in debug mode."""
        if inside_vmap():
            raise RuntimeError(
                "the mapped function draws from minisplit.random, as often as its rank has chunks of samples: "
                'draw within it by torch.rand and the like, with minisplit.vmap(..., randomness="different")'
            )
        state = self.get_state()
        if debugging():
            _compare(state, comm)
        self._state.set(state._replace(call=state.call + 1))
        return fold(words_of(state.seed), state.call, state.stream)


def _restored(state: State) -> Generator:
    generator = Generator(state.seed, state.stream)
    generator.set_state(state)
    return generator


default = Generator(0)


def sanitize_generator(generator: Generator | None) -> Generator:
    """Return `generator`, or the one that is used for None; TypeError for anything else."""
    if generator is None:
        return default
    if isinstance(generator, Generator):
        return generator
    raise TypeError(
        f"generator must be a minisplit.random.Generator or None, got {type(generator).__name__}: torch's and "
        "NumPy's draw other numbers on each number of ranks"
    )


def seed(seed: int | None = None, *, comm: Communication | None = None) -> int:
    """Start the draws again from `seed`, a number from 0 to 2^64 - 1, and return it. Local.

    Until it is called the seed is 0. All ranks must give the same one. Without a number rank 0 of `comm` takes a
    random one for all: this is collective.

    >>> import minisplit as ms
    >>> ms.random.seed(7)
    7
    >>> first = ms.random.rand(3).tolist()
    >>> ms.random.rand(3).tolist() == first
    False
    >>> ms.random.seed(7)
    7
    >>> ms.random.rand(3).tolist() == first
    True
    """
    if seed is None:
        seed = int.from_bytes(sanitize_comm(comm).broadcast_bytes(secrets.token_bytes(8)))
    default.seed(seed)
    return default.get_state().seed


def get_state() -> State:
    """Return seed, stream and number of calls so far, for `set_state`. Local.

    >>> import minisplit as ms
    >>> state = ms.random.get_state()
    >>> first = ms.random.rand(3).tolist()
    >>> ms.random.set_state(state)
    >>> ms.random.rand(3).tolist() == first
    True
    """
    return default.get_state()


def set_state(state: State) -> None:
    """Go on from what `get_state` has given, on all ranks. Local.

    TypeError or ValueError for what is no such state.

    >>> import minisplit as ms
    >>> ms.random.set_state(ms.random.get_state())
    """
    default.set_state(state)


@contextmanager
def fork(seed: int | None = None) -> Iterator[None]:
    """Within a `with` block draw on the side: afterwards the draws go on as if there had been none. Local.

    With `seed` the block starts from that seed, else from where the draws are.

    >>> import minisplit as ms
    >>> before = ms.random.get_state()
    >>> with ms.random.fork(seed=3):
    ...     x = ms.random.rand(2, split=0)
    >>> ms.random.get_state() == before
    True
    """
    before = default.get_state()
    if seed is not None:
        default.seed(seed)
    try:
        yield
    finally:
        default.set_state(before)


def _compare(state: State, comm: Communication) -> None:
    """CollectiveError, the same on every rank, unless all draw from the same state."""
    record = np.array([word for number in state for word in words_of(number)], dtype=np.int64)
    table = comm.allgather(record)
    if (table == table[0]).all():
        return
    states = [State(*(int(row[i]) | int(row[i + 1]) << 32 for i in (0, 2, 4))) for row in table]
    texts = [f"draws call {s.call} of seed {s.seed}, stream {s.stream}" for s in states]
    raise CollectiveError(
        f"the ranks draw different random numbers: {texts_by_rank(texts)}; all must seed alike and make the same "
        "calls in the same order"
    )
