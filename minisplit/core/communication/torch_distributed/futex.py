"""Waiting until another process of this machine gives the word: Linux's futex, by way of the C library.

Tested in tests/core/communication/torch_distributed/test_shared_memory.py.
"""

from __future__ import annotations

import ctypes

# The number of the system call on x86-64, and of its operations on memory that processes share.
_FUTEX, _WAIT, _WAKE = 202, 0, 1


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Flags:
    """A flag for each rank, in memory that all of them share: whether it sleeps, and is to be woken.

    Parameters
    ----------
    memory : memoryview
        The memory of the flags.
    size : int
        The number of ranks.
    """

    __slots__ = ("_call", "_words")

    def __init__(self, memory: memoryview, size: int) -> None:
        self._words = (ctypes.c_int32 * size).from_buffer(memory)
        self._call = ctypes.CDLL(None).syscall
        word, pointer, number = ctypes.c_long, ctypes.c_void_p, ctypes.c_int
        self._call.argtypes = (word, pointer, number, number, pointer, pointer, number)

    def raise_own(self, rank: int) -> None:
        """Say that a rank is about to sleep."""
        self._words[rank] = 1

    def sleep(self, rank: int, seconds: float) -> None:
        """Sleep until the flag is down, for so many seconds at most."""
        whole = int(seconds)
        limit = _Time(whole, int((seconds - whole) * 1e9))
        self._call(_FUTEX, ctypes.byref(self._words, 4 * rank), _WAIT, 1, ctypes.byref(limit), None, 0)
        self._words[rank] = 0

    def wake(self, rank: int) -> None:
        """Take down the flag of a rank, and wake it if it sleeps."""
        if self._words[rank]:
            self._words[rank] = 0
            self._call(_FUTEX, ctypes.byref(self._words, 4 * rank), _WAKE, 1, None, None, 0)

    def wake_all(self) -> None:
        """Wake all ranks that sleep."""
        for rank, is_up in enumerate(self._words):
            if is_up:
                self.wake(rank)
