"""The state of random numbers: seeds, streams, and how many calls have drawn from each stream."""

from __future__ import annotations

import random as python_random
import secrets
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch

from minisplit.core.communication.debug import CollectiveError, debugging, texts_by_rank
from minisplit.core.communication.inside_vmap import inside_vmap
from minisplit.core.communication.protocol import Comm, Communication, sanitize_comm
from minisplit.core.error_text import short_repr
from minisplit.core.layout import as_index
from minisplit.core.random.philox import CallKey, words_of

_LIMIT = 2**64
# The states of all generators that have drawn. One variable, since a context keeps each variable that was set in
# it for ever. Its value is replaced, not changed: another context may have it as well.
_states: ContextVar[weakref.WeakKeyDictionary[Generator, State]] = ContextVar("minisplit_random")


class State(NamedTuple):
    """The state of a generator, which says what its next call draws.

    It is a value that can be kept, compared, printed and pickled. The parameters are its fields.

    Parameters
    ----------
    seed : int
        The seed.
    stream : int, default 0
        The stream. Streams of one seed are independent of each other.
    call : int, default 0
        How many calls have drawn from the stream.
    """

    seed: int
    stream: int = 0
    call: int = 0


def _check_state(state: State) -> State:
    """The state with plain ints. TypeError or ValueError for what is no state."""
    # A plain tuple or list is welcome: that is what some formats of files make of a State.
    if not isinstance(state, tuple | list) or len(state) != 3:
        raise TypeError(f"state must be what get_state() returns, got {short_repr(state)}")
    numbers = State(*(as_index(number, name) for number, name in zip(state, State._fields, strict=True)))
    for number, name in zip(numbers, State._fields, strict=True):
        if not 0 <= number < _LIMIT:
            raise ValueError(f"{name} must be from 0 to 2**64 - 1, got {number}")
    return numbers


class Generator:
    """A separate stream of random numbers.

    Generators with the same seed and stream draw the same numbers. Generators with different seeds or streams draw
    independent numbers. Each call draws new numbers. They depend only on the seed, the stream, the number of the
    call and the shape, so all ranks must make the same calls in the same order. Debug mode compares the calls.

    Each thread and each asynchronous task counts its own calls. If it inherits the context of its creator, it
    starts with the creator's count, otherwise with 0.

    Parameters
    ----------
    seed : int
        The seed, from 0 to 2^64 - 1.
    stream : int, default 0
        The stream, from 0 to 2^64 - 1. The functions of `minisplit.random` without a generator use stream 0.

    Raises
    ------
    TypeError
        If one of them is not an int.
    ValueError
        If one of them is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> g, h = ms.random.Generator(5, stream=1), ms.random.Generator(5, stream=1)
    >>> ms.random.rand(3, generator=g).tolist() == ms.random.rand(3, generator=h).tolist()
    True
    >>> g.get_state()
    State(seed=5, stream=1, call=1)
    """

    __slots__ = ("__weakref__", "_first")

    def __init__(self, seed: int, stream: int = 0) -> None:
        # The state before the first call. A variable that is set here would be so in this thread only, while ranks
        # that are threads may share the generator.
        self._first = _check_state(State(seed, stream))

    def __repr__(self) -> str:
        state = self.get_state()
        return f"Generator({state.seed}, stream={state.stream}) after {state.call} calls"

    def __reduce__(self) -> Any:
        return _restore, (self.get_state(),)

    def seed(self, seed: int) -> None:
        """Set another seed, in the same stream. Local, and on all ranks.

        Parameters
        ----------
        seed : int
            The seed, from 0 to 2^64 - 1.
        """
        self.set_state(State(seed, self.get_state().stream))

    def get_state(self) -> State:
        """Return the state, which says what the next call draws. Local.

        Returns
        -------
        State
            Seed, stream and number of calls.
        """
        states = _states.get(None)
        return self._first if states is None else states.get(self, self._first)

    def set_state(self, state: State) -> None:
        """Set the state. Local, and on all ranks.

        Parameters
        ----------
        state : State
            What `get_state` has returned.
        """
        self._set_state(_check_state(state))

    def _set_state(self, state: State) -> None:
        states = weakref.WeakKeyDictionary(_states.get({}))
        states[self] = state
        _states.set(states)

    def next_key(self, comm: Communication) -> CallKey:
        """Return the key of one call, and count the call. Local, but collective in debug mode.

        Parameters
        ----------
        comm : Communication
            The ranks that draw.

        Returns
        -------
        CallKey
            What the words of the call depend on.
        """
        if inside_vmap():
            raise RuntimeError(
                "the mapped function draws from minisplit.random, once for each chunk of its rank: "
                'draw by torch.rand and the like, with minisplit.vmap(..., randomness="different")'
            )
        state = self.get_state()
        if debugging():
            _compare_states(state, comm)
        self._set_state(state._replace(call=state.call + 1))
        # The call is a part of the counter, so that no two calls use the same one, whatever their shapes are.
        return CallKey(*state)


def _restore(state: State) -> Generator:
    """Make a generator of the state that pickle has kept."""
    generator = Generator(state.seed, state.stream)
    generator.set_state(state)
    return generator


# That of all functions without `generator=`.
default = Generator(0)


def sanitize_generator(generator: Generator | None) -> Generator:
    """Return `generator`, or the default one for None. TypeError for anything else."""
    if generator is None:
        return default
    if isinstance(generator, Generator):
        return generator
    raise TypeError(
        f"generator must be a minisplit.random.Generator or None, got {type(generator).__name__}: torch's and "
        "NumPy's would draw other numbers on another number of ranks"
    )


def seed(seed: int | None = None, *, comm: Comm = None) -> int:
    """Seed the default generator, and the generators of torch, NumPy and Python.

    Until this is called the seed is 0. It also seeds torch, NumPy's `np.random` and Python's `random`, so that all
    ranks make the same parameters of a network, for example.

    Parameters
    ----------
    seed : int, optional
        The seed, from 0 to 2^64 - 1, and the same on all ranks. By default a random one.
    comm : Communication, optional
        The ranks that agree on a random seed. By default the communicator in use.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    TypeError
        If the seed is not an int.
    ValueError
        If it is out of range.

    Communication
    -------------
    Local with a seed. Collective without one: one broadcast.

    Examples
    --------
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
    seed = default.get_state().seed
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - it is the generator of programs that we seed
    python_random.seed(seed)
    return seed


def get_state() -> State:
    """Return the state of the default generator.

    Returns
    -------
    State
        Seed, stream and number of calls, for `set_state`.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> state = ms.random.get_state()
    >>> first = ms.random.rand(3).tolist()
    >>> ms.random.set_state(state)
    >>> ms.random.rand(3).tolist() == first
    True
    """
    return default.get_state()


def set_state(state: State) -> None:
    """Set the state of the default generator.

    Parameters
    ----------
    state : State
        What `get_state` has returned. The same on all ranks.

    Raises
    ------
    TypeError
        If it is no state.
    ValueError
        If a number in it is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.random.set_state(ms.random.get_state())
    """
    default.set_state(state)


def fork(seed: int | None = None) -> AbstractContextManager[None]:
    """Draw in a `with` block, and restore the state of the default generator after it.

    Parameters
    ----------
    seed : int, optional
        The seed with which the block starts. By default the block starts with the present state.

    Returns
    -------
    context manager
        After its block the state is as before.

    Raises
    ------
    TypeError
        If the seed is not an int.
    ValueError
        If it is out of range.

    Communication
    -------------
    Local.

    Examples
    --------
    >>> import minisplit as ms
    >>> before = ms.random.get_state()
    >>> with ms.random.fork(seed=3):
    ...     x = ms.random.rand(2, split=0)
    >>> ms.random.get_state() == before
    True
    """
    return _restore_afterwards(seed)


@contextmanager
def _restore_afterwards(seed: int | None) -> Iterator[None]:
    """The context manager of `fork`, which is a plain function so that editors and tracebacks show it as one."""
    before = default.get_state()
    if seed is not None:
        default.seed(seed)
    try:
        yield
    finally:
        default.set_state(before)


def _compare_states(state: State, comm: Communication) -> None:
    """Raise CollectiveError, the same on every rank, unless all draw from the same state."""
    # Records hold int64, and the numbers of a state go up to 2^64.
    record = np.array([word for number in state for word in words_of(number)], dtype=np.int64)
    table = comm.allgather_record(record)
    if (table == table[0]).all():
        return
    states = [State(*(int(row[i]) | int(row[i + 1]) << 32 for i in (0, 2, 4))) for row in table]
    texts = [f"draws call {s.call} of seed {s.seed}, stream {s.stream}" for s in states]
    raise CollectiveError(
        f"the ranks draw different random numbers: {texts_by_rank(texts)}; all must seed alike and make the same "
        "calls in the same order"
    )
