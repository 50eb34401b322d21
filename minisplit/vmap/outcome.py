"""The one small message after a mapped call: did any rank fail, and do all outputs look alike?

A rank's record is minus its rank if it failed, then its outputs as numbers, then the same numbers negated.
The elementwise maximum over the ranks holds the first failing rank, and for each number the largest and
(negated) the smallest: ranks without samples fill in the lowest possible, and so learn what the others have.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from minisplit.core.communication.agreement import ALL_WELL, Failure, failure_code, raise_together
from minisplit.core.communication.protocol import Communication, Record
from minisplit.core.dtypes import ALL_DTYPES, dtype_code
from minisplit.core.error_text import short_list
from minisplit.core.layout import Layout
from minisplit.vmap.pytree import (
    Structure,
    structure_bytes,
    structure_from_bytes,
    structure_from_text,
    structure_text,
)

# Numbers in a record for the outputs; more than that is sent as a digest.
_WORDS = 48
_DIGEST = -1
_MOST_SHOWN = 8
_TEXT_PER_WORD = 7


@dataclass(frozen=True, slots=True)
class Output:
    """What every rank must know of one output, also a rank without samples.

    `dim` is the mapped axis, None for an output that is the same for every sample; that also has a checksum of its
    values, below 2**62 as all numbers in a record.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    dim: int | None
    requires_grad: bool = False
    checksum: int = 0

    def __str__(self) -> str:
        grad = ", requires grad" if self.requires_grad else ""
        if self.dim is None:
            return f"{self.dtype} {self.shape}, not mapped, with checksum {self.checksum:x}{grad}"
        return f"{self.dtype} {self.shape} per sample, mapped along axis {self.dim}{grad}"


@dataclass(frozen=True, slots=True)
class Outputs:
    """All outputs of a call, and how they lie in what the function returned."""

    each: tuple[Output, ...]
    structure: Structure

    def __str__(self) -> str:
        text = " and ".join(f"({output})" for output in self.each)
        layout = structure_text(self.structure)
        return text if layout is None or layout.isdecimal() or not layout else f"{text} as {layout}"


def check_tellable(outputs: Outputs, samples: Layout) -> None:
    """TypeError where ranks without samples could not be told of these outputs. Local, before the agreement."""
    if _record(outputs)[1] == _DIGEST and _some_empty(samples):
        _pickled(outputs)


def agree_on_outputs(
    comm: Communication,
    samples: Layout,
    mine: Outputs | None,
    failure: Failure | None,
) -> Outputs:
    """Return the outputs' description, known on every rank, or raise the same error on all. Collective.

    `mine` is None on a rank that has no samples or failed. One agreement of under 1 KiB; a second message only
    after a failure, or to ranks without samples where the description does not fit (`messages`). Raises
    ValueError where the ranks' outputs differ.
    """
    record = _record(mine) if failure is None else _failed(comm, failure.error)
    highest = comm.agree(record)
    # Where the maximum is a rank's own record no rank failed or differs: the common case, and the quick one.
    if mine is None or highest.tobytes() != record.tobytes():
        if highest[0] != ALL_WELL:
            raise_together(comm, -int(highest[0]), failure)
        if (highest[1 : _WORDS + 1] != -highest[_WORDS + 1 :]).any():
            _raise_differing(comm, record)
    return _tell_empty_ranks(comm, samples, mine, highest)


def messages(outputs: Outputs, samples: Layout) -> int:
    """How many collective calls ranks need to know of the outputs and to have those that are replicated."""
    if samples.ranks == 1:
        return 0
    if not _some_empty(samples):
        return 1
    return 1 + (_encoded(outputs)[0] == _DIGEST) + sum(output.dim is None for output in outputs.each)


def _some_empty(samples: Layout) -> bool:
    """Whether some ranks have samples and others have none."""
    return samples.size > 0 and 0 in (samples.counts or ())


def first_with_samples(samples: Layout) -> int:
    """The first rank that has samples."""
    return next(rank for rank, count in enumerate(samples.counts or ()) if count)


def _tell_empty_ranks(comm: Communication, samples: Layout, mine: Outputs | None, agreed: Record) -> Outputs:
    words = agreed[1 : _WORDS + 1].tolist()
    if words[0] != _DIGEST:
        return mine if mine is not None else _decoded(words)
    if _some_empty(samples):
        told = comm.broadcast_bytes(_pickled(mine) if mine is not None else b"", first_with_samples(samples))
        return mine if mine is not None else _unpickled(told)
    assert mine is not None, "a rank with samples describes its outputs"
    return mine


def _raise_differing(comm: Communication, record: Record) -> None:
    table = comm.allgather(record[1 : _WORDS + 1].copy()).tolist()
    seen: dict[str, list[int]] = {}
    for rank, words in enumerate(table):
        if words[0] != ALL_WELL:
            text = f"outputs with digest {words[1]:x}" if words[0] == _DIGEST else str(_decoded(words))
            seen.setdefault(text, []).append(rank)
    texts = [f"{text} on rank{'s' * (len(ranks) > 1)} {short_list(ranks)}" for text, ranks in seen.items()]
    found = "; ".join(texts[:_MOST_SHOWN]) + "; ..." * (len(texts) > _MOST_SHOWN)
    raise ValueError(
        "func must return the same structure, number, shapes and dtypes of outputs on every rank, and where "
        f"out_dims is None the same values, got {found}"
    )


@lru_cache(maxsize=256)
def _record(mine: Outputs | None) -> Record:
    record = np.full(2 * _WORDS + 1, ALL_WELL, dtype=np.int64)
    if mine is not None:
        words = np.zeros(_WORDS, dtype=np.int64)
        encoded = _encoded(mine)
        words[: len(encoded)] = encoded
        record[1 : _WORDS + 1] = words
        record[_WORDS + 1 :] = -words
    record.flags.writeable = False
    return record


def _failed(comm: Communication, error: BaseException) -> Record:
    record = _record(None).copy()
    record[0] = failure_code(comm, error)
    return record


@lru_cache(maxsize=256)
def _encoded(outputs: Outputs) -> list[int]:
    """The outputs as at most `_WORDS` numbers, from which `_decoded` makes them again unless they are a digest."""
    words = [len(outputs.each)]
    for output in outputs.each:
        dim = -1 if output.dim is None else output.dim
        words += [dtype_code(output.dtype), dim, output.requires_grad, output.checksum]
        words += [len(output.shape), *output.shape]
    text = structure_text(outputs.structure)
    if text is not None:
        data = text.encode()
        pieces = [data[i : i + _TEXT_PER_WORD] for i in range(0, len(data), _TEXT_PER_WORD)]
        words += [len(data), *map(int.from_bytes, pieces)]
    if text is None or len(words) > _WORDS:
        whole = f"{words} {outputs.structure!r}".encode()
        return [_DIGEST, int.from_bytes(hashlib.blake2b(whole, digest_size=7).digest())]
    return words


def _decoded(words: list[int]) -> Outputs:
    numbers = iter(words)
    each = []
    for _ in range(next(numbers)):
        code, dim, requires_grad, checksum, ndim = (next(numbers) for _ in range(5))
        shape = tuple(next(numbers) for _ in range(ndim))
        each.append(Output(ALL_DTYPES[code], shape, None if dim < 0 else dim, bool(requires_grad), checksum))
    left = next(numbers)
    text = b""
    while left > 0:
        text += next(numbers).to_bytes(min(left, _TEXT_PER_WORD))
        left -= _TEXT_PER_WORD
    return Outputs(tuple(each), structure_from_text(text.decode()))


def _pickled(outputs: Outputs) -> bytes:
    return pickle.dumps((outputs.each, structure_bytes(outputs.structure)))


def _unpickled(data: bytes) -> Outputs:
    each, structure = pickle.loads(data)
    return Outputs(each, structure_from_bytes(structure))
