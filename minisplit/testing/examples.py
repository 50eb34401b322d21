"""Examples of hypothesis as ranks see them: `assume` and `note` find the one that runs in its own thread only."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext


def shown() -> bool | None:
    """Whether the example that hypothesis runs in this thread is the one it shows; None where it runs none."""
    variable = getattr(sys.modules.get("hypothesis.control"), "_current_build_context", None)
    context = getattr(variable, "value", None)
    return None if context is None else bool(context.is_final)


def in_example(shown: bool | None) -> AbstractContextManager[object]:
    """Let this rank call `assume` and `note`. `event` and `target`, which are the whole example's, do nothing."""
    control = sys.modules.get("hypothesis.control")
    if shown is None or control is None:
        return nullcontext()
    try:
        nothing = sys.modules["hypothesis.internal.conjecture.data"].ConjectureData.for_choices(())
        context: AbstractContextManager[object] = control.BuildContext(nothing, is_final=shown, wrapped_test=None)
    except (AttributeError, KeyError, TypeError):  # hypothesis promises none of this
        return nullcontext()
    return context
