"""The one small message after a mapped call: did any rank fail, and do all outputs look alike?

A rank's record is minus its rank if it failed, then its outputs as numbers, then the same numbers negated.
The elementwise maximum over the ranks holds the first failing rank, and for each number the largest and
(negated) the smallest: ranks without samples fill in the lowest possible, and so learn what the others have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from minisplit.core.communication import Communication, Record
from minisplit.core.dtypes import ALL_DTYPES, dtype_code
from minisplit.core.errors import ALL_WELL, failing, raise_together
from minisplit.core.layout import Layout

# Numbers in a record for the outputs; more than that is sent as a digest.
_WORDS = 48
_DIGEST = -1


@dataclass(frozen=True, slots=True)
class Output:
    """What every rank must know of one output, also a rank without samples; `dim` is the mapped axis."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    dim: int
    requires_grad: bool = False

    def __str__(self) -> str:
        grad = ", requires grad" if self.requires_grad else ""
        return f"{self.dtype} {self.shape} per sample, mapped along axis {self.dim}{grad}"


def agree_on_outputs(
    comm: Communication,
    samples: Layout,
    mine: tuple[Output, ...] | None,
    error: BaseException | None,
    doing: str,
) -> tuple[Output, ...]:
    """Return the outputs' description, known on every rank, or raise the same error on all. Collective.

    `mine` is None on a rank that has no samples or failed with `error`; `doing` says what it was mapping. One
    agreement of under 1 KiB; a second message only after a failure, or to ranks
    without samples for outputs of very many numbers. Raises ValueError where the ranks' outputs differ.
    """
    record = _record(mine) if error is None else _failure(comm, error)
    highest = comm.agree(record)
    # Where the maximum is a rank's own record no rank failed or differs: the common case, and the quick one.
    if mine is None or highest.tobytes() != record.tobytes():
        if highest[0] != ALL_WELL:
            raise_together(comm, -int(highest[0]), error, doing)
        if (highest[1 : _WORDS + 1] != -highest[_WORDS + 1 :]).any():
            _raise_differing(comm, record)
    return _tell_empty_ranks(comm, samples, mine, highest)


def _tell_empty_ranks(
    comm: Communication, samples: Layout, mine: tuple[Output, ...] | None, agreed: Record
) -> tuple[Output, ...]:
    words = agreed[1 : _WORDS + 1]
    if words[0] != _DIGEST:
        return mine if mine is not None else _decode(words.tolist())
    counts = samples.counts or ()
    if comm.size > 1 and samples.size and 0 in counts:
        root = next(rank for rank, count in enumerate(counts) if count)
        sent = np.array(_encode(mine) if mine is not None else [], dtype=np.int64).tobytes()
        told = comm.broadcast_bytes(sent, root)
        return mine if mine is not None else _decode(np.frombuffer(told, dtype=np.int64).tolist())
    assert mine is not None, "a rank with samples describes its outputs"
    return mine


def _raise_differing(comm: Communication, record: Record) -> None:
    table = comm.allgather(record[1 : _WORDS + 1].copy()).tolist()
    seen: dict[str, list[int]] = {}
    for rank, words in enumerate(table):
        if words[0] != ALL_WELL:
            seen.setdefault(_show(words), []).append(rank)
    found = "; ".join(f"{text} on rank {', '.join(map(str, ranks))}" for text, ranks in seen.items())
    raise ValueError(f"func must return the same number, shapes and dtypes of outputs on every rank, got {found}")


def _show(words: list[int]) -> str:
    if words[0] == _DIGEST:
        return f"many outputs (digest {words[1]:x})"
    return " and ".join(f"({output})" for output in _decode(words))


@lru_cache(maxsize=256)
def _record(mine: tuple[Output, ...] | None) -> Record:
    record = np.full(2 * _WORDS + 1, ALL_WELL, dtype=np.int64)
    if mine is not None:
        words = np.zeros(_WORDS, dtype=np.int64)
        encoded = _encode(mine)
        if len(encoded) > _WORDS:
            digest = hashlib.blake2b(np.array(encoded, dtype=np.int64).tobytes(), digest_size=7).digest()
            encoded = [_DIGEST, int.from_bytes(digest), len(encoded)]
        words[: len(encoded)] = encoded
        record[1 : _WORDS + 1] = words
        record[_WORDS + 1 :] = -words
    record.flags.writeable = False
    return record


def _failure(comm: Communication, error: BaseException) -> Record:
    record = _record(None).copy()
    record[0] = failing(comm, error)
    return record


def _encode(outputs: Sequence[Output]) -> list[int]:
    words = [len(outputs)]
    for output in outputs:
        shape = output.shape
        words += [dtype_code(output.dtype), output.dim, output.requires_grad, len(shape), *shape]
    return words


def _decode(words: list[int]) -> tuple[Output, ...]:
    outputs = []
    at = 1
    for _ in range(words[0]):
        code, dim, requires_grad, ndim = words[at : at + 4]
        shape = tuple(words[at + 4 : at + 4 + ndim])
        outputs.append(Output(ALL_DTYPES[code], shape, dim, bool(requires_grad)))
        at += 4 + ndim
    return tuple(outputs)
