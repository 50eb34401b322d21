"""How much memory is taken by tensors that are alive."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Alive(TorchDispatchMode):
    """The most bytes of tensors made within it that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.alive = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        # Some functions give numbers, as `item`.
        for x in filter(torch.is_tensor, made if isinstance(made, (tuple, list)) else (made,)):
            storage = x.untyped_storage()
            if storage._cdata not in self.known | {y.untyped_storage()._cdata for y in args if torch.is_tensor(y)}:
                self.known.add(storage._cdata)
                self.alive += storage.nbytes()
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        return made

    def forget(self, number: int, size: int) -> None:
        self.known.discard(number)
        self.alive -= size
