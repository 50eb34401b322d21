"""All names of torch that torch does not promise to keep, as far as `minisplit.vmap` uses them.

Tried with torch 2.13.0. No other module uses a private module of torch, but three of `minisplit.core.pytorch`:
`pytree`, which other packages use too, `graph_breaks` and `transforms`. So where another version of torch has
moved or changed names, these are the modules to mend. They are

- `torch._C._functorch`: the parts of which `torch.vmap` is made, and which tell on which level a tensor is mapped;
- `torch.distributions.dirichlet`: the function that draws, which torch cannot map;
- `torch._functorch`: decompositions, which `torch.vmap` loads at its first call;
- `torch._subclasses`: tensors without data, which have shapes and dtypes only;
- `torch._dynamo`: a setting of `torch.compile`.

Two private attributes are used in place: `Tensor._version` in `execute` and `loop`, and
`torch._C.DisableTorchFunction` here.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._C import _functorch
from torch._functorch import pyfunctorch
from torch._functorch.vmap import lazy_load_decompositions  # type: ignore[attr-defined]
from torch.distributions import dirichlet

from minisplit.core.communication.debug import checksum
from minisplit.core.pytorch.transforms import unwrap

# Those of tensors within transforms are in `minisplit.core`, which needs them too.
__all__ = ["checksum", "unwrap"]
# Assignments, so that each name stands here once: names that are imported are private for type checkers.
DisableTorchFunction = torch._C.DisableTorchFunction
CVmapInterpreterPtr = _functorch.CVmapInterpreterPtr
RandomnessType = _functorch.RandomnessType
TransformType = _functorch.TransformType
add_batch_dim = _functorch._add_batch_dim
begin_vmap_level = _functorch._vmap_increment_nesting
end_vmap_level = _functorch._vmap_decrement_nesting
get_interpreter_stack = _functorch.get_interpreter_stack
get_unwrapped = _functorch.get_unwrapped
is_batchedtensor = _functorch.is_batchedtensor
is_functorch_wrapped_tensor = _functorch.is_functorch_wrapped_tensor
maybe_get_level = _functorch.maybe_get_level
remove_batch_dim = _functorch._remove_batch_dim
temporarily_clear_interpreter_stack = pyfunctorch.temporarily_clear_interpreter_stack

# torch.vmap does this at its first call. Without it operations that have no batching rule of their own, but are
# made of others that have one, are errors until somebody calls torch.vmap.
lazy_load_decompositions()


def is_compiled(func: Any) -> bool:
    """Whether a function is what `torch.compile` made of one."""
    module = getattr(func, "__globals__", {}).get("__name__", "")
    return isinstance(module, str) and module.startswith("torch._dynamo")


def levels() -> int:
    """How many transforms of `torch.func` are around what runs now."""
    return len(get_interpreter_stack() or ())


def mapped_levels(x: torch.Tensor) -> set[int]:
    """The levels of `vmap` at which a tensor is mapped."""
    levels = set()
    while is_functorch_wrapped_tensor(x):
        if is_batchedtensor(x):
            levels.add(maybe_get_level(x))
        x = get_unwrapped(x)
    return levels


_logs = [
    logging.getLogger(f"torch.{name}") for name in ("_subclasses.fake_tensor", "_guards", "_dynamo.convert_frame")
]
# How many threads are within `without_compilation`, and what ends it: torch has one setting for all threads, and
# threads may be ranks.
_eager_lock = threading.Lock()
_eager_depth = 0
_eager_stack = ExitStack()


@contextmanager
def without_compilation() -> Iterator[None]:
    """Run functions that torch has compiled as they are written, within a `with` block."""
    global _eager_depth  # noqa: PLW0603 - one number, as torch's setting is one
    with _eager_lock:
        _eager_depth += 1
        if _eager_depth == 1:
            _eager_stack.enter_context(torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _eager_lock:
            _eager_depth -= 1
            if _eager_depth == 0:
                _eager_stack.close()


# As above, of the threads within `with_dirichlet`.
_dirichlet_lock = threading.Lock()
_dirichlet_depth = 0
_dirichlet = dirichlet._Dirichlet


@contextmanager
def with_dirichlet(function: Any) -> Iterator[None]:
    """Let another function than torch's own, which torch cannot map, draw Dirichlet numbers in a `with` block.

    `function.apply` is called with the concentrations, as of a `torch.autograd.Function`.
    """
    global _dirichlet_depth  # noqa: PLW0603 - as torch has one such function
    with _dirichlet_lock:
        _dirichlet_depth += 1
        dirichlet._Dirichlet = function  # type: ignore[misc]
    try:
        yield
    finally:
        with _dirichlet_lock:
            _dirichlet_depth -= 1
            if _dirichlet_depth == 0:
                dirichlet._Dirichlet = _dirichlet  # type: ignore[misc]


@contextmanager
def tensors_without_data() -> Iterator[None]:
    """Make tensors in a `with` block that have a shape and a dtype, but no memory: torch's fake tensors."""
    # Not at the top: the import takes a second, and few programs need it.
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415

    # Tensors that the function captured have data, and may be used beside those without.
    with quiet_torch(), FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Within a `with` block torch does not log errors of tensors without data, and of what it cannot compile.

    They become a part of a plan, or of a warning, or are raised on all ranks. Nor does it warn of what it does to
    find them: it looks at the `grad` of tensors, say, and then warns of having done so.
    """
    before = [log.disabled for log in _logs]
    for log in _logs:
        log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
            warnings.filterwarnings("ignore", module=r"torch\.")
            yield
    finally:
        for log, disabled in zip(_logs, before, strict=True):
            log.disabled = disabled


def mark_dynamic(x: torch.Tensor, dim: int) -> None:
    """Tell torch's compiler, by an attribute of the tensor, that its extent along this axis may be any."""
    torch._dynamo.mark_dynamic(x, dim)


@contextmanager
def compiling() -> Iterator[None]:
    """Let torch compile, within a `with` block, for the shapes that it gets but for axes that are marked.

    Without that it makes code for all shapes where it gets a second one, which is slower.
    """
    # Not at the top: the import takes a second.
    import torch._dynamo  # noqa: PLC0415

    with quiet_torch(), torch._dynamo.config.patch(automatic_dynamic_shapes=False):
        yield
