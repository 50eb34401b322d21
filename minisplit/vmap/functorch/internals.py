"""All names of torch that torch does not promise to keep, as far as `minisplit.vmap` uses them.

Tried with torch 2.13.0. No other module uses a private module of torch, but three of `minisplit.core.pytorch`:
`pytree`, which other packages use too, `graph_breaks` and `transforms`. So where another version of torch has
moved or changed names, these are the modules to mend. They are

- `torch._C._functorch`: the parts of which `torch.vmap` is made, and which tell on which level a tensor is mapped;
- `torch.distributions.dirichlet`: the function that draws, which torch cannot map;
- `torch._functorch`: decompositions, which `torch.vmap` loads at its first call;
- `torch._subclasses`: tensors without data, which have shapes and dtypes only;
- `torch._dynamo`: a setting of `torch.compile`, and the code that it has made of a function;
- `torch._inductor`: which options the compiler has, and what it calls with each graph.

Two private attributes are used in place: `Tensor._version` in `execute` and `loop`, and
`torch._C.DisableTorchFunction` here.
"""

from __future__ import annotations

import inspect
import logging
import threading
import types
import warnings
from collections.abc import Callable, Iterator
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


def compiler_options() -> set[str]:
    """The names of the options of torch's compiler."""
    import torch._inductor  # noqa: PLC0415 - it takes a second

    return set(torch._inductor.list_options())


def graph_pass(rewrite: Callable[[torch.fx.Graph], None], version: str) -> Any:
    """An option of torch's compiler: a function that it calls with each graph. Kept code is of one version."""
    from torch._inductor.custom_graph_pass import CustomGraphPass  # noqa: PLC0415 - it takes a second

    class Pass(CustomGraphPass):  # type: ignore[misc, unused-ignore]
        def __call__(self, graph: torch.fx.Graph) -> None:
            rewrite(graph)

        def uuid(self) -> str:
            return version

    return Pass()


class DirectCode:
    """The code that `torch.compile` has made of a function, to be called without what it puts around that.

    That takes 10 us, and as much again of all that runs next: it drives other code out of the processor's caches.
    torch's conditions of each code are checked here too, so that the code is as right as by torch's own call. What
    is left out is for functions that are compiled in parts, or while others are traced.

    With a torch of other private names there is no such code, and each call is torch's own.
    """

    def __init__(self, function: types.FunctionType) -> None:
        self._function = function
        self._arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        # The conditions of each code, and a function of it.
        self._codes: list[tuple[Any, Callable[..., Any]]] = []

    def find(self) -> None:
        """Find what is compiled by now."""
        try:
            entries = torch._dynamo.eval_frame._debug_get_cache_entry_list(self._function.__code__)
            self._codes = [
                (entry.guard_manager, types.FunctionType(entry.code, self._globals(entry.code)))
                for entry in entries
                if isinstance(entry.code, types.CodeType) and callable(entry.guard_manager.root.check)
            ]
        except (AttributeError, TypeError):
            self._codes = []

    def _globals(self, code: types.CodeType) -> dict[str, Any]:
        """What the code refers to, without what keeps torch from compiling that: it is not about to."""
        names, known, utils = code.co_names, self._function.__globals__, torch._dynamo.utils
        bare = types.SimpleNamespace(
            **{
                name: inspect.unwrap(getattr(utils, name))
                for name in names
                if callable(getattr(utils, name, None))
            }
        )
        return {
            name: bare if known[name] is utils else getattr(known[name], "_torchdynamo_orig_callable", known[name])
            for name in names
            if name in known
        }

    def call(self, *args: Any) -> Any:
        """What the code for these arguments returns; None where there is none, or the program forbids it."""
        if not self._codes or torch._dynamo.eval_frame._stance.stance != "default":
            return None
        values = dict(zip(self._arguments, args, strict=True))
        for conditions, code in self._codes:
            # torch takes the first away when what the code refers to is gone, or all code is.
            if conditions.cache_entry is not None and conditions.root.check(values):
                depth = _functorch.get_dynamic_layer_stack_depth()
                try:
                    return code(*args)
                except BaseException:
                    self._codes = []  # until torch's own call of it succeeds
                    _functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)  # what a backend's code may leave
                    raise
        return None
