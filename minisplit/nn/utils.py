"""The functions of `torch.nn.utils` that use all gradients together, for parameters that may be split."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, TypeAlias

import torch

from minisplit.core.array import DNDarray
from minisplit.core.communication.protocol import Communication, get_comm
from minisplit.core.error_text import short_repr
from minisplit.nn.optimisers import parts_of

__all__ = ["clip_grad_norm_", "load_optimizer"]

Parameter: TypeAlias = DNDarray | torch.Tensor
# By how much, squared and relative, norms that must be the same may differ between ranks with other processors.
_ROUNDING = 1e-8


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of a saved optimiser, as `minisplit.load_checkpoint` returns it, into an optimiser.

    It is `optimizer.load_state_dict` for parameters that may be split, on any number of ranks.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimiser. It has the same parameters as the saved one, but their layouts may differ.
    state : dict
        The state of an optimiser that was saved by `minisplit.save_checkpoint({"optimizer": optimizer}, path)`.

    Raises
    ------
    ValueError
        If the state is of other parameters.

    Communication
    -------------
    Collective if the layouts of parameters have changed since the save: one exchange for each of their states.

    Examples
    --------
    >>> import minisplit as ms, tempfile, torch
    >>> w = ms.ones(4, split=0).requires_grad_()
    >>> optimizer = torch.optim.Adam([w.larray])
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ms.MPI_WORLD.broadcast_bytes(folder.encode()).decode() + "/step-1.safetensors"
    ...     ms.save_checkpoint({"w": w, "optimizer": optimizer}, path)
    ...     state = ms.load_checkpoint(path)
    >>> w = state["w"].requires_grad_()
    >>> optimizer = torch.optim.Adam([w.larray])
    >>> ms.nn.utils.load_optimizer(optimizer, state["optimizer"])
    """
    optimizer.load_state_dict(parts_of(optimizer, state))


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> torch.Tensor:
    """Scale all gradients down, in place, so that their norm as one vector is at most `max_norm`.

    It is `torch.nn.utils.clip_grad_norm_` for parameters that may be split: a split parameter counts over all
    ranks, and a replicated one counts once.

    Parameters
    ----------
    parameters : DNDarray or torch.Tensor, or an iterable of them
        The leaves whose gradients are scaled. A leaf without a gradient is left out. A tensor, such as a parameter
        of a module, counts as replicated; give a split array itself, not its `larray`.
    max_norm : float
        The greatest norm that the gradients may have.
    norm_type : float, default 2.0
        The order of the norm, which is positive; `inf` is the greatest absolute value.
    error_if_nonfinite : bool, default False
        Whether a norm that is infinite or NaN is an error.

    Returns
    -------
    torch.Tensor
        The norm before scaling, 0-d, the same on all ranks.

    Raises
    ------
    TypeError
        If a parameter is neither a DNDarray nor a tensor.
    ValueError
        If DNDarrays are on different communicators, or the order is not positive.
    RuntimeError
        If the gradients of replicated parameters differ between the ranks, or the norm is not finite and
        `error_if_nonfinite` is True.

    Communication
    -------------
    Collective: one allreduce of three numbers.

    See Also
    --------
    torch.nn.utils.clip_grad_value_ : Clip each element, which is right for the `larray` of each parameter.

    Examples
    --------
    >>> import minisplit as ms, torch
    >>> x = ms.array([3.0, 4.0], split=0).requires_grad_()
    >>> (x**2).sum().backward()
    >>> ms.nn.utils.clip_grad_norm_([x], max_norm=5.0), ms.round(x.grad, 3).tolist()
    (tensor(10.), [3.0, 4.0])
    """
    several = [parameters] if isinstance(parameters, (DNDarray, torch.Tensor)) else list(parameters)
    comm = _communicator(several)
    order = float(norm_type)
    if not order > 0:
        raise ValueError(f"norm_type must be positive, got {short_repr(norm_type)}")
    shards, parts, wholes = [], list[torch.Tensor](), list[torch.Tensor]()
    for x in several:
        if not isinstance(x, (DNDarray, torch.Tensor)):
            raise TypeError(f"a parameter must be a DNDarray or a tensor, got {type(x).__name__}")
        is_split = isinstance(x, DNDarray) and x.split is not None
        shard = x.larray if isinstance(x, DNDarray) else x
        shards.append(shard)
        if shard.grad is not None:
            (parts if is_split else wholes).append(shard.grad.detach())
    for i, gradient in enumerate(wholes):
        comm.check_replicated(gradient, f"gradient {i} of what is replicated", _HINT)
    total = _total_norm(parts, wholes, order, comm)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(
            f"the norm of order {order} of the gradients is {total.item()}, so they cannot be clipped; "
            "error_if_nonfinite=False scales them all the same"
        )
    torch.nn.utils.clip_grads_with_norm_(shards, max_norm, total)
    return total


_HINT = "of a split array give clip_grad_norm_ the array, not its larray"


def _communicator(parameters: Iterable[Parameter]) -> Communication:
    """Return the communicator of the arrays, or the one in use where there are only tensors."""
    comms = list(dict.fromkeys(x.comm for x in parameters if isinstance(x, DNDarray))) or [get_comm()]
    if len(comms) > 1:
        raise ValueError(
            "parameters must be on one communicator, got communicators of "
            f"{' and '.join(str(comm.size) for comm in comms)} ranks; clip those of each by themselves"
        )
    return comms[0]


def _total_norm(
    parts: list[torch.Tensor], wholes: list[torch.Tensor], order: float, comm: Communication
) -> torch.Tensor:
    """Return the norm of all gradients: of parts that differ between the ranks, and of wholes that do not."""
    first = next(iter((*parts, *wholes)), torch.zeros(()))
    # A shard without elements has no greatest one, for the order inf.
    filled = ([x for x in each if x.numel()] for each in (parts, wholes))
    split, whole = (torch.nn.utils.get_total_norm(x, order).to(first.device, torch.float64) for x in filled)
    # In one message also what shows whether all ranks have the same whole: extremes, or mean and mean square.
    if order == inf:
        split, greatest, least = comm.allreduce(torch.stack([split, whole, -whole]), "max")
        total, differs = torch.maximum(split, greatest), (greatest + least) ** 2 > _ROUNDING * greatest**2
    else:
        powers, mean, square = comm.allreduce(torch.stack([split**order, whole / comm.size, whole**2 / comm.size]))
        total, differs = (powers + mean**order) ** (1 / order), square - mean**2 > _ROUNDING * square
    if differs:
        raise RuntimeError(
            "the gradients of parameters that are tensors or replicated arrays must be the same on all ranks, but "
            f"their norms differ: {_HINT}; and of a module's parameters let the loss be that of all samples"
        )
    return total.to(first.real.dtype)
