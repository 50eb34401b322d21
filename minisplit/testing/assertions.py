"""Comparing a distributed array with what it should be, with one verdict for all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from minisplit.core.array import DNDarray, as_dndarray
from minisplit.core.communication.agreement import ALL_WELL, failure_code
from minisplit.core.communication.debug import checksum
from minisplit.core.error_text import encoded

Expected = torch.Tensor | NDArray[Any] | DNDarray | complex | list[Any]


def assert_equal(x: DNDarray, expected: Expected) -> None:
    """Check that an array has the values, shape and dtype of another one.

    NaN equals NaN. The layouts of `x` on the ranks are compared too.

    Parameters
    ----------
    x : DNDarray
        The array to check. Any shape, split and counts.
    expected : torch.Tensor or numpy.ndarray or DNDarray or complex or list
        The global array, which every rank has, or a DNDarray. The dtype is not compared for numbers and lists.

    Raises
    ------
    AssertionError
        On every rank, with the same text, if they differ on any rank.
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Collective: two small messages. There is one more exchange if `expected` is a DNDarray.

    See Also
    --------
    minisplit.testing.assert_close : Compare with tolerances.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.assert_equal(ms.arange(3, split=0), [0, 1, 2])
    """
    __tracebackhide__ = True
    assert_close(x, expected, rtol=0.0, atol=0.0)


def assert_close(x: DNDarray, expected: Expected, *, rtol: float | None = None, atol: float | None = None) -> None:
    """Check that an array has the shape and dtype of another one, and values that are close to it.

    NaN equals NaN. The layouts of `x` on the ranks are compared too.

    Parameters
    ----------
    x : DNDarray
        The array to check. Any shape, split and counts.
    expected : torch.Tensor or numpy.ndarray or DNDarray or complex or list
        The global array, which every rank has, or a DNDarray. The dtype is not compared for numbers and lists.
    rtol : float, optional
        The relative tolerance. By default that of `torch.testing.assert_close` for the dtype.
    atol : float, optional
        The absolute tolerance. By default that of `torch.testing.assert_close` for the dtype. Give both
        tolerances, or none.

    Raises
    ------
    AssertionError
        On every rank, with the same text, if they differ on any rank.
    TypeError
        If `x` is not a DNDarray.

    Communication
    -------------
    Collective: two small messages. There is one more exchange if `expected` is a DNDarray.

    See Also
    --------
    minisplit.testing.assert_equal : Compare exactly.

    Examples
    --------
    >>> import minisplit as ms
    >>> ms.testing.assert_close(ms.full(3, 0.1, split=0), [0.1, 0.1, 0.1])
    """
    __tracebackhide__ = True
    array = as_dndarray(x, "x")
    if isinstance(expected, DNDarray):
        expected = expected.to_layout(expected.layout.with_split(None)).larray
    # Python's numbers and lists have no dtype that anybody has chosen.
    has_dtype = isinstance(expected, (torch.Tensor, np.ndarray, np.generic))
    whole = torch.as_tensor(expected, device=array.device)
    layout, rank = array.layout, array.comm.rank
    # Each rank compares the part that its layout gives it: with different layouts some elements would be in none.
    digests = array.comm.allgather_record(np.array([checksum(repr((layout, array.dtype)))]))[:, 0]
    # Not raised at once: the other ranks would wait in the agreement.
    failed = None
    try:
        if digests[rank] != digests[0]:
            raise AssertionError(f"rank {rank} has {layout!r} of {array.dtype}, which is not what rank 0 has")
        if tuple(whole.shape) != array.shape:
            raise AssertionError(f"the shape is {array.shape}, expected {tuple(whole.shape)}")
        if has_dtype and whole.dtype is not array.dtype:
            raise AssertionError(f"the dtype is {array.dtype}, expected {whole.dtype}")
        if array.lshape != layout.lshape(rank):
            raise AssertionError(f"the shard of rank {rank} has shape {array.lshape} in {layout!r}")
        shard, part = array.larray.detach(), whole[layout.box(rank)].detach()
        options: dict[str, Any] = {"rtol": rtol, "atol": atol, "equal_nan": True, "check_dtype": has_dtype}
        holder = f"of what rank {rank} of {array.comm.size} holds in {layout!r}"
        torch.testing.assert_close(shard, part, **options, msg=lambda text: f"{text}\n\n{holder}")
    except AssertionError as error:
        failed = error
    first = -int(array.comm.agree(np.array([failure_code(array.comm, failed)]))[0])
    if first != -ALL_WELL:
        # Not by `raise_together`, whose text has the traceback: here it says nothing, and the text is long enough.
        raise AssertionError(array.comm.broadcast_bytes(encoded(str(failed)), first).decode())
