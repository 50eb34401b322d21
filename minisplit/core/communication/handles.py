"""What the watchdog knows a communicator by: a name that its ranks share, and its last calls.

Tested in tests/core/communication/mpi/test_handles.py.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, ClassVar

# By its name, each communicator of which a rank may still be asked what it has called on it.
HANDLES: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
# The communicators between processes that were made and not given up, for the watchdog and the end of the job.
LIVE: weakref.WeakSet[Any] = weakref.WeakSet()
# The name of that of all ranks; others are greater.
WORLD = 1
# So many that were given up are remembered.
MANY = 256


class Handle:
    """What is left of a communicator that a rank has given up, as long as others may wait for it there.

    Parameters
    ----------
    recent : list
        The last calls of the communicator, as `Communication` keeps them.

    Attributes
    ----------
    name : int
        The same on all ranks of the communicator and on no other one; 0 where they have not agreed on one yet.
    given_up : bool
        Whether no call can come on it from this rank any more.
    """

    __slots__ = ("__weakref__", "given_up", "name", "recent")

    # Those that were given up and that nobody else would remember. Not of the module, which is empty when the
    # interpreter ends.
    remembered: ClassVar[deque[Handle]] = deque(maxlen=MANY)

    def __init__(self, recent: list[Any]) -> None:
        self.recent = recent
        self.name = 0
        self.given_up = False

    def set_name(self, name: int) -> None:
        """Have a name, by which others may ask for its calls."""
        self.name = name
        HANDLES[name] = self

    def give_up(self, is_part: bool) -> None:
        """Say that this rank makes no more calls. `is_part`: the one that it was split off remembers it."""
        self.given_up = True
        if self.name and not is_part:
            self.remembered.append(self)


def remembers_all() -> bool:
    """Whether `HANDLES` has every communicator that this rank has given up without the others."""
    return len(Handle.remembered) < MANY
