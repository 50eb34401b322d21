"""What `torch.compile` makes of code that calls minisplit: graphs before and after each call, which runs as it is

It cannot capture calls that communicate, and finds so after it has tried, with warnings. What is set here is what
`torch.compiler.disable` sets, which would take a second at import, since it imports the compiler.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch

_REASON = "a call of minisplit may communicate with other ranks, which no graph can hold: leave out fullgraph=True"


def break_graphs(namespaces: Iterable[types.ModuleType | type]) -> None:
    """Let all public functions, methods and classes in these run as they are written, also in compiled code.

    Properties are captured, so that `fullgraph=True` captures what a program computes from `x.larray`.
    """
    for namespace in namespaces:
        for name, value in list(vars(namespace).items()):
            if name.startswith("_") and not name.startswith("__"):
                continue
            function = getattr(value, "__func__", value)  # of class methods and static ones
            if isinstance(function, types.FunctionType):
                break_graph(function)
            elif isinstance(value, type) and value is not namespace and value.__module__.startswith("minisplit."):
                break_graphs([value])


def never_compiled(namespace: type[Any]) -> type[Any]:
    """Decorate a class whose methods autograd calls by itself, also out of compiled code."""
    break_graphs([namespace])
    return namespace


def break_graph(function: Any) -> None:
    """Let a function, and all that it calls, run as it is written, also in code that is compiled."""
    # The compiler reads this where it would go on into the function.
    function._torchdynamo_disable, function._torchdynamo_disable_msg = True, _REASON
    # And this where the function runs. With a torch of other private names it would be compiled, with warnings.
    with suppress(AttributeError, TypeError):
        frames = torch._C._dynamo.eval_frame
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))
