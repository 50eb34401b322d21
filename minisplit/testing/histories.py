"""Whether ranks can go on, decided from what each of them called instead of from a clock.

Every rank keeps, for each communicator, the list of its collective calls. Ranks that fit together have made the
same calls in the same order, so two lists tell a deadlock (one rank waits in a call that another will never
make) from a rank that is merely slow, and they show different calls that an MPI library took for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from minisplit.core.communication.debug import texts_by_rank

# How a communicator was made: () is that of all ranks, each (number of the call, color) a split of the one before.
Key = tuple[tuple[int, int], ...]
State = Literal["running", "waiting", "returned", "raised", "interrupted"]


class CallRecord(NamedTuple):
    """One collective call of one rank; of an exchange also what goes to and comes from each peer."""

    call: str
    site: str
    sends: Mapping[int, str] = {}
    recvs: Mapping[int, str] = {}


class History(NamedTuple):
    """The calls of one rank on one communicator, whose ranks are the `members` in this order."""

    members: tuple[int, ...]
    calls: list[CallRecord]


@dataclass
class Progress:
    """How far a rank has come. In the latest call on the communicator `waits_on` it waits, or was interrupted."""

    state: State = "running"
    histories: dict[Key, History] = field(default_factory=dict)
    waits_on: Key | None = None

    def calls_on(self, key: Key) -> list[CallRecord]:
        """Return the calls that the rank has made on a communicator, which it may not know yet."""
        return self.histories[key].calls if key in self.histories else []

    @property
    def ended(self) -> bool:
        """Whether the rank has left the function."""
        return self.state in {"returned", "raised", "interrupted"}

    def latest_call(self) -> CallRecord | None:
        """Return the call in which the rank waits; where it waits in none, the last one that it made."""
        calls = self.calls_on(() if self.waits_on is None else self.waits_on)
        return calls[-1] if calls else None


def different_calls(ranks: Sequence[Progress]) -> str:
    """Describe the first calls that were made as one but differ; "" where there are none."""
    # On the communicator of all ranks first: what differs there may be why its parts differ.
    for key, members, histories in _by_communicator(ranks):
        for index in range(max(map(len, histories))):
            calls = {rank: history[index] for rank, history in enumerate(histories) if index < len(history)}
            if len({record.call for record in calls.values()}) > 1:
                texts = [_describe(calls.get(rank)) for rank in range(len(members))]
                return f"{call_title(index + 1, members, bool(key))}: {texts_by_rank(texts, members)}"
            # Of one exchange the calls are the same, and only its messages can differ.
            for fault in _unmatched_messages(calls, members):
                return f"{call_title(index + 1, members, bool(key))}: {fault}"
    return ""


def missing_calls(ranks: Sequence[Progress]) -> str:
    """Describe the first call that some ranks made and others did not; "" where there is none."""
    for key, members, histories in _by_communicator(ranks):
        shortest = min(map(len, histories))
        if max(map(len, histories)) > shortest:
            texts = [_describe_rank(ranks[member], key, shortest) for member in members]
            return f"{call_title(shortest + 1, members, bool(key))}: {texts_by_rank(texts, members)}"
    return ""


def deadlocked_ranks(ranks: Sequence[Progress]) -> list[int]:
    """Return the ranks that wait for one that will not come: it has ended, or is such a rank itself."""
    free = {rank for rank, progress in enumerate(ranks) if progress.state == "running"}
    waiting = {rank for rank, progress in enumerate(ranks) if progress.state == "waiting"}
    # A rank that waits only for free ranks may yet go on, and then so may those that wait for it.
    while freed := {rank for rank in waiting - free if free.issuperset(_awaited_ranks(ranks, rank))}:
        free |= freed
    return sorted(waiting - free)


def _awaited_ranks(ranks: Sequence[Progress], rank: int) -> list[int]:
    """Return the ranks that have not come to the call in which `rank` waits."""
    key = ranks[rank].waits_on
    if key is None:
        return []
    members, calls = ranks[rank].histories[key]
    return [member for member in members if len(ranks[member].calls_on(key)) < len(calls)]


def _by_communicator(ranks: Sequence[Progress]) -> Iterator[tuple[Key, tuple[int, ...], list[list[CallRecord]]]]:
    """Yield key, members, and the members' calls of each communicator: that of all ranks first, then its parts."""
    known = {key: history.members for progress in ranks for key, history in progress.histories.items()}
    for key, members in sorted(known.items(), key=lambda item: (len(item[0]), item[0])):
        yield key, members, [ranks[member].calls_on(key) for member in members]


def _unmatched_messages(calls: Mapping[int, CallRecord], members: Sequence[int]) -> Iterator[str]:
    """Yield what one rank of an exchange sends and its peer does not expect, or the other way round."""
    for sender, sending in calls.items():
        for receiver, receiving in calls.items():
            sent, expected = sending.sends.get(receiver), receiving.recvs.get(sender)
            if sent != expected:
                yield (
                    f"rank {members[sender]} sends {sent or 'nothing'} to rank {members[receiver]} "
                    f"({_describe(sending)}), which expects {expected or 'nothing'} ({_describe(receiving)})"
                )


def call_title(number: int, members: Sequence[int], is_part: bool) -> str:
    """Return what texts name a call by: its number, and the members of the communicator if it is a part."""
    part = f" on the split-off part of ranks {', '.join(map(str, members))}" if is_part else ""
    return f"collective #{number}{part}"


def _describe(record: CallRecord | None) -> str:
    return f"{record.call} at {record.site}" if record else "did not come to it"


def _describe_rank(progress: Progress, key: Key, index: int) -> str:
    """Describe what a rank did instead of, or in, the call with this index."""
    calls = progress.calls_on(key)
    if index < len(calls):
        waits = progress.waits_on == key and index == len(calls) - 1
        return "waited in " * waits + _describe(calls[index])
    if progress.state in {"returned", "raised"}:
        return progress.state
    if progress.waits_on is not None:
        return f"waited in {_describe(progress.latest_call())}, on another communicator"
    return _describe(None)
