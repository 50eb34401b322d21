"""Whether ranks can go on, decided from what each of them called instead of from a clock.

Every rank keeps, for each communicator, the list of its collective calls. Ranks that fit together have made the
same calls in the same order, so two lists tell a deadlock (one rank waits in a call that another will never
make) from a rank that is merely slow, and they tell of different calls that an MPI library took for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from minisplit.core.communication.debug import texts_by_rank

# How a communicator was made: () is that of all ranks, each (number of the call, color) a split of the one before.
Key = tuple[tuple[int, int], ...]
State = Literal["running", "waiting", "returned", "raised", "interrupted"]


class Entry(NamedTuple):
    """One collective call of one rank; an exchange also has what goes to and comes from each peer."""

    call: str
    site: str
    sends: Mapping[int, str] = {}
    recvs: Mapping[int, str] = {}


class History(NamedTuple):
    """The calls of one rank on one communicator, whose ranks are the `members` in this order."""

    members: tuple[int, ...]
    entries: list[Entry]


@dataclass
class Progress:
    """How far a rank has come. `where` is the communicator in whose latest call it waits or was interrupted."""

    state: State = "running"
    histories: dict[Key, History] = field(default_factory=dict)
    where: Key | None = None

    @property
    def ended(self) -> bool:
        return self.state in {"returned", "raised", "interrupted"}

    def latest(self) -> Entry | None:
        """The call in which the rank waits; where it waits in none, the last one that it made."""
        history = self.histories.get(() if self.where is None else self.where)
        return history.entries[-1] if history and history.entries else None


def mismatch(ranks: Sequence[Progress]) -> str:
    """The first calls that were made as one but differ, as text; "" where there are none."""
    for key, members, histories in _by_communicator(ranks):
        for index in range(max(map(len, histories))):
            made = {at: entries[index] for at, entries in enumerate(histories) if index < len(entries)}
            if len({entry.call for entry in made.values()}) > 1:
                texts = [_made(made.get(at)) for at in range(len(members))]
                return f"{_title(key, members, index)}: {texts_by_rank(texts, members)}"
            for fault in _unanswered(made, members):
                return f"{_title(key, members, index)}: {fault}"
    return ""


def unequal(ranks: Sequence[Progress]) -> str:
    """The first call that some ranks made and others did not, as text; "" where there is none."""
    for key, members, histories in _by_communicator(ranks):
        shortest = min(map(len, histories))
        if max(map(len, histories)) > shortest:
            texts = [_of_one(ranks[member], key, shortest) for member in members]
            return f"{_title(key, members, shortest)}: {texts_by_rank(texts, members)}"
    return ""


def stuck(ranks: Sequence[Progress]) -> list[int]:
    """The ranks that wait for one that will not come: it has ended, or is such a rank itself."""
    free = {rank for rank, progress in enumerate(ranks) if progress.state == "running"}
    waiting = {rank for rank, progress in enumerate(ranks) if progress.state == "waiting"}
    while freed := {rank for rank in waiting - free if free.issuperset(_missing(ranks, rank))}:
        free |= freed
    return sorted(waiting - free)


def _missing(ranks: Sequence[Progress], rank: int) -> Iterator[int]:
    """The ranks that have not come to the call in which `rank` waits."""
    key = ranks[rank].where
    if key is None:
        return
    members, entries = ranks[rank].histories[key]
    for member in members:
        if key not in ranks[member].histories or len(ranks[member].histories[key].entries) < len(entries):
            yield member


def _by_communicator(ranks: Sequence[Progress]) -> Iterator[tuple[Key, tuple[int, ...], list[list[Entry]]]]:
    known = {key: history.members for progress in ranks for key, history in progress.histories.items()}
    for key, members in sorted(known.items(), key=lambda item: (len(item[0]), item[0])):
        yield key, members, [ranks[m].histories.get(key, History(members, [])).entries for m in members]


def _unanswered(made: Mapping[int, Entry], members: Sequence[int]) -> Iterator[str]:
    """What one rank of an exchange sends and its peer does not expect, or the other way round."""
    for here, mine in made.items():
        for there, theirs in made.items():
            sent, expected = mine.sends.get(there), theirs.recvs.get(here)
            if sent != expected:
                yield (
                    f"rank {members[here]} sends {sent or 'nothing'} to rank {members[there]} ({mine.call} at "
                    f"{mine.site}), which expects {expected or 'nothing'} ({theirs.call} at {theirs.site})"
                )


def _title(key: Key, members: Sequence[int], index: int) -> str:
    part = f" on the split-off part of ranks {', '.join(map(str, members))}" if key else ""
    return f"collective #{index + 1}{part}"


def _made(entry: Entry | None) -> str:
    return f"{entry.call} at {entry.site}" if entry else "did not come to it"


def _of_one(progress: Progress, key: Key, index: int) -> str:
    history = progress.histories.get(key)
    if history and index < len(history.entries):
        waits = progress.where == key and index == len(history.entries) - 1
        return "waited in " * waits + _made(history.entries[index])
    match progress.state, progress.latest():
        case ("returned" | "raised") as state, _:
            return state
        case _, latest if progress.where is not None:
            return f"waited in {_made(latest)}, on another communicator"
    return _made(None)
