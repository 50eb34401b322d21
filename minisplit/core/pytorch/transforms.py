"""What autograd and the transforms of `torch.func` have made of a tensor, and whether they follow it.

Here are the names of torch for this that torch does not promise to keep, beside those of
`minisplit.vmap.functorch.internals`. Tried with torch 2.13.0. They are `torch._C._functorch`, whose wrappers hold
a tensor for each transform that is around it; `torch._functorch`, which leaves all transforms for a while; and the
number of the level of forward mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch._C import _functorch
from torch._functorch import pyfunctorch
from torch.autograd import forward_ad

# Whether a transform of `torch.func` is around.
is_transformed = torch._C._are_functorch_transforms_active
_is_wrapped = _functorch.is_functorch_wrapped_tensor
# In a `with` block forward mode is on.
forward_mode = partial(forward_ad._set_fwd_grad_enabled, True)
# Whether a tensor is a batch of those of the first form of `torch.vmap`, by which `torch.autograd` still computes
# batches of gradients: `is_grads_batched=True`, and `vectorize=True` of its Jacobians.
is_in_old_batch = _functorch.is_legacy_batchedtensor
unpack_dual: Callable[..., Any] = forward_ad.unpack_dual
make_dual: Callable[..., Any] = forward_ad.make_dual
# Within a transform even `detach` would put a wrapper around its result. In a `with` block no transform is around.
outside_transforms = pyfunctorch.temporarily_clear_interpreter_stack


def is_followed(x: torch.Tensor) -> bool:
    """Whether derivatives or batches are computed through functions of `x`, which must then be those of autograd.

    It may require a gradient, or have a tangent, or a transform of `torch.func` may be around.
    """
    return (
        (x.requires_grad and torch.is_grad_enabled()) or is_transformed() or has_tangent(x) or is_in_old_batch(x)
    )


def is_tracked(x: torch.Tensor) -> bool:
    """Whether `x` itself requires a gradient, has a tangent, or is a tensor of a transform that is around."""
    return x.requires_grad or _is_wrapped(x) or has_tangent(x)


def has_memory(x: torch.Tensor) -> bool:
    """Whether a tensor has elements to read: autograd gives `sgn`, for one, a gradient of zeros in no memory."""
    return not x._is_zerotensor()


def is_plain() -> bool:
    """Whether neither forward mode is on nor a transform around, so that there are but gradients of autograd."""
    return forward_ad._current_level < 0 and not is_transformed()


def has_tangent(x: torch.Tensor) -> bool:
    """Whether `x` is dual on the level of forward mode that is open, and not for a transform alone."""
    return (
        forward_ad._current_level >= 0
        and torch._C._is_fwd_grad_enabled()
        and not (_is_wrapped(x) or is_in_old_batch(x))
        and unpack_dual(x).tangent is not None
    )


def has_tangent_within(x: torch.Tensor) -> bool:
    """Whether `x` has a tangent of the last transform around, or, where there is none, `has_tangent`."""
    if not is_transformed():
        return has_tangent(x)
    last = pyfunctorch.retrieve_all_functorch_interpreters()[-1]
    return isinstance(last, pyfunctorch.JvpInterpreter) and unpack_dual(x).tangent is not None


def map_old_batch(
    func: Callable[..., Sequence[torch.Tensor]], tensors: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return `func(*tensors)`, where some tensors are in a batch of the first form, by the present form."""
    level = _old_level()
    are_batched = [is_in_old_batch(x) for x in tensors]
    # The 1 would be the size of the batch of a tensor that has none.
    plain = [
        torch._remove_batch_dim(x, level, 1, 0) if has else x for x, has in zip(tensors, are_batched, strict=True)
    ]
    mapped = torch.vmap(lambda *given: tuple(func(*given)), tuple(0 if has else None for has in are_batched))
    # Contiguous, as that form asks of a tangent that the batch be in front in memory too.
    return [torch._add_batch_dim(x.contiguous(), 0, level) for x in mapped(*plain)]


def old_batch(x: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Return the tensor of a whole batch of the first form, the batch in front, and what makes that of a tensor.

    Of a tensor in no batch: itself, and a function that returns what it is given.
    """
    if not is_in_old_batch(x):
        return x, lambda x: x
    level = _old_level()
    return torch._remove_batch_dim(x, level, 1, 0), lambda x: torch._add_batch_dim(x.contiguous(), 0, level)


def in_batch_of(others: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors that are all in a batch of the first form, if one of the others is."""
    example = next(filter(is_in_old_batch, others), None)
    if example is None:
        return list(tensors)
    whole, put_back = old_batch(example)
    return [x if is_in_old_batch(x) else put_back(x.expand(len(whole), *x.shape)) for x in tensors]


def _old_level() -> int:
    level: int = torch._C._vmapmode_increment_nesting()
    torch._C._vmapmode_decrement_nesting()
    return level - 1


def has_hooks() -> bool:
    """Whether what graphs save goes through hooks, as those of `torch.utils.checkpoint`."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def keeps_graph() -> bool:
    """Whether the backward pass that runs was called with `retain_graph=True`."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def spread(x: torch.Tensor) -> torch.Tensor:
    """Return `x` with the axes of all `torch.vmap` that are around, and the tangents of all modes but the last.

    A gradient or a tangent may lack them where it is zero, or does not depend on what is mapped, on one rank only.
    """
    around = pyfunctorch.retrieve_all_functorch_interpreters()
    for place, interpreter in enumerate(around):
        if isinstance(interpreter, pyfunctorch.VmapInterpreter):
            with outside_transforms():
                zeros = torch.zeros(interpreter.batch_size(), dtype=x.dtype, device=x.device)
            x = x + _functorch._add_batch_dim(zeros, 0, interpreter.level())
        elif isinstance(interpreter, pyfunctorch.JvpInterpreter) and place < len(around) - 1:
            with outside_transforms():
                zero = torch.zeros((), dtype=x.dtype, device=x.device)
            with ExitStack() as stack:
                for inner in reversed(around[place + 1 :]):
                    stack.enter_context(inner.lower())
                zero = make_dual(_functorch._wrap_for_grad(zero, interpreter.level()), zero)
            x = x + zero
    return x


def unwrap(x: torch.Tensor) -> torch.Tensor:
    """The tensor with the values, beneath the wrappers that `torch.func` puts around it. They have no memory."""
    while _is_wrapped(x):
        x = _functorch.get_unwrapped(x)
    return x


def is_batched(x: torch.Tensor) -> bool:
    """Whether `torch.vmap` is around, and has an axis of `x` that shapes do not show."""
    while _is_wrapped(x):
        if _functorch.is_batchedtensor(x):
            return True
        x = _functorch.get_unwrapped(x)
    return False
