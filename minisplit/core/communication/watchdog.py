"""A thread that ends the job where this rank would wait for ever, after the ranks have said where they are.

It is certain that a rank waits for ever in a collective call

- where another rank of the communicator has left its program, or dropped the communicator, after fewer calls,
- where another rank has made a different call of the same number, whether it waits in that one or has gone on, as
  the root of a broadcast does,
- where ranks wait for each other in calls of several communicators.

A rank that waits for a while tells rank 0, which asks the ranks of that communicator for the call of that number;
they answer once they know, as each keeps its last calls. So while all goes well nothing is sent. A rank that
computes does not answer, and never ends the job. Other waits end by `MINISPLIT_TIMEOUT`.

The watchdogs have a channel of their own, on which they send while their ranks compute, or have left their
programs. Unlike signals that works across machines. With MPI it needs `MPI_THREAD_MULTIPLE`, for which mpi4py asks
by default; with less there is only the time limit, and only the ranks that wait too long say where they are.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from minisplit.core.communication.debug import call_site, describe_call
from minisplit.core.communication.handles import HANDLES, WORLD, remembers_all
from minisplit.core.communication.job import ASK, END, TELL, Channel
from minisplit.core.communication.protocol import KEPT, Call, Communication
from minisplit.core.error_text import short_list

# Seconds that the other ranks have to say where they are, and the launcher to pass it on.
GRACE = 1.5
# After how many seconds a rank that waits tells rank 0, and one that has left says so.
PATIENCE = 5.0
# Seconds between two looks at the end of this rank's program at whether the others have ended theirs.
LONGEST_PAUSE = 0.2
# Of so many calls up to the one in which a rank waits others compare theirs.
COMPARED = 256
# Seconds between two looks at this rank.
_STEP = 0.5
# What wakes the thread to end it, where else is the number of a signal: no signal has this one.
_STOP = 0
_RULE = ": all ranks must make the same calls; ending the job\n"


def time_limit() -> float | None:
    """Return the seconds of `MINISPLIT_TIMEOUT`, or None for no limit; ValueError where it is no such number."""
    text = os.environ.get("MINISPLIT_TIMEOUT", "").strip()
    try:
        limit = float(text or 0)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise ValueError(f"MINISPLIT_TIMEOUT must be a number of seconds, or 0 for no limit, got {text!r}")
    return limit if 0 < limit < math.inf else None


def say(write: Callable[[], object]) -> None:
    """Write to standard error before the job ends, which must not wait where that is full, or read by nobody."""

    def attempt() -> None:
        with suppress(BaseException):
            write()

    writer = threading.Thread(target=attempt, daemon=True)
    writer.start()
    writer.join(GRACE)
    if writer.is_alive():  # the MPI library writes there as well when it ends the job
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class _Wait(NamedTuple):
    """This rank waits in a call. `members` has the ranks of the communicator, none where it is that of all."""

    rank: int
    name: int
    number: int
    members: tuple[int, ...]

    @property
    def call(self) -> tuple[int, int]:
        return self.name, self.number


class _Over(NamedTuple):
    """This rank waits no more on a communicator."""

    rank: int
    name: int


class _Made(NamedTuple):
    """This rank has made a call. The checksums, of it and of those before it, are 0 where they are not known."""

    rank: int
    name: int
    number: int
    checksum: int
    before: int
    text: str

    @property
    def call(self) -> tuple[int, int]:
        return self.name, self.number

    def differs(self, other: _Made) -> bool:
        pairs = (self.checksum, other.checksum), (self.before, other.before)
        return any(mine and theirs and mine != theirs for mine, theirs in pairs)


class _Missing(NamedTuple):
    """This rank makes no call after the number `made`: it has left its program, or dropped the communicator."""

    rank: int
    name: int
    number: int
    made: int
    has_dropped: bool

    @property
    def call(self) -> tuple[int, int]:
        return self.name, self.number


class _Blocked(NamedTuple):
    """This rank has not made a call, and does not as long as it waits in another one."""

    rank: int
    name: int
    number: int
    waits_in: tuple[int, int]

    @property
    def call(self) -> tuple[int, int]:
        return self.name, self.number


_Answer = _Made | _Missing | _Blocked
_Message = _Answer | _Wait | _Over
# Messages go as plain tuples, which every channel can carry.
_KINDS: dict[str, Callable[..., _Message]] = {
    kind.__name__: kind for kind in (_Made, _Missing, _Blocked, _Wait, _Over)
}


class _Seen(NamedTuple):
    """The number of a call, and for how many seconds this rank was seen to be in it."""

    number: int
    seconds: float


class Watchdog(threading.Thread):
    """Ends the job if a collective call cannot end, takes longer than the limit, or stays after Ctrl-C.

    Parameters
    ----------
    live : Collection of Communication
        The communicators to look at.
    world : Communication
        That of all ranks.
    limit : float or None
        The seconds that a call may take, None for no limit.
    channel : Channel or None
        The messages between the watchdogs. None where there can be none.
    abort : callable
        Ends the job.
    """

    def __init__(
        self,
        live: Collection[Communication],
        world: Communication,
        limit: float | None,
        channel: Channel | None,
        abort: Callable[[], object],
    ) -> None:
        super().__init__(name="minisplit-watchdog", daemon=True)
        self._live = live
        self._prefix = f"[rank {world.rank} of {world.size}] "
        self._world = world
        self._limit = limit or math.inf
        self._step = min(limit / 10, _STEP) if limit else _STEP if channel is not None else None
        self._channel = channel
        self._abort = abort
        self._stopped = False
        # When this rank left its program.
        self._left_at: float | None = None
        # Of each communicator in a call: which one, and for how long. Weak, since one that is dropped would else
        # not be freed before the next look.
        self._waits: WeakKeyDictionary[Communication, _Seen] = WeakKeyDictionary()
        # What rank 0 was told of them, and what it has asked of the calls of others and was answered.
        self._told: dict[int, int] = {}
        self._questions: dict[tuple[int, int], _Answer | None] = {}
        # On rank 0: which ranks wait in which calls, what others have answered, and what the last look has found.
        self._waiting: dict[tuple[int, int], _Wait] = {}
        self._answers: dict[tuple[int, int], dict[int, _Answer]] = {}
        self._suspicion = ""
        self._checked_at = time.monotonic()
        # This pipe wakes the thread. The interpreter writes the number of each signal into it, also while the main
        # thread is inside of MPI, where it cannot raise KeyboardInterrupt.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def start(self) -> None:
        """Start the thread, and take the numbers of signals where nobody else does."""
        if threading.current_thread() is threading.main_thread():
            before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            if before == -1:
                # A forked process has the same pipe, but its signals are not those of this rank.
                os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
            else:
                signal.set_wakeup_fd(before)
        super().start()

    def run(self) -> None:
        """Look at this rank from time to time, until `stop` is called."""
        while True:
            ready, _, _ = select.select([self._reader], [], [], self._step)
            signals = os.read(self._reader, 4096) if ready else b""
            if _STOP in signals:
                return
            if signal.SIGINT in signals and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._check_interrupt()
            if self._step:
                self._check(self._step)

    def leave(self) -> None:
        """Say "has left" from now on."""
        self._left_at = self._left_at or time.monotonic()

    def stop(self) -> None:
        """Wait until all ranks have come here, as they must to finalise MPI, and end the thread. Collective."""
        if self._stopped:
            return
        self._stopped = True
        self.leave()
        # Longer and longer: the ranks of a large job would else ask one store all the time, say until the first
        # one has written its file.
        pause = 0.001
        while self._channel is not None and not self._channel.all_have_left():
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)
        os.write(self._writer, bytes([_STOP]))
        self.join()
        if self._channel is not None:
            self._channel.close()

    def _check(self, step: float) -> None:
        """End the job if this rank has waited for too long, or another rank ends it."""
        now = time.monotonic()
        # The time for which the whole process was stopped does not count.
        passed, self._checked_at = min(now - self._checked_at, 2 * step), now
        waits: WeakKeyDictionary[Communication, _Seen] = WeakKeyDictionary()
        for comm in self._active():
            call = comm._call  # read once: the rank may go on at any moment
            if call is not None:
                number, seconds = self._waits.get(comm, (0, 0.0))
                waits[comm] = _Seen(call[0], seconds + passed if number == call[0] else 0.0)
        self._waits = waits
        if any(seconds > self._limit for _, seconds in waits.values()):
            self._end_all(f"waited longer than MINISPLIT_TIMEOUT={self._limit:g} s; ending the job\n")
        elif self._channel is not None:
            self._tell_waits()
            self._answer_rank_0(self._channel)
            if self._world.rank == 0:
                self._look_at_all(self._channel)
            if self._channel.has_come(END):
                self._end("")

    def _tell_waits(self) -> None:
        """Tell rank 0 in which calls this rank has waited for a while, and in which it waits no more."""
        waits = {_name(comm): (comm, wait) for comm, wait in self._waits.items() if wait.seconds >= PATIENCE}
        for name in [
            name for name, number in self._told.items() if name not in waits or waits[name][1].number != number
        ]:
            del self._told[name]
            self._tell(_Over(self._world.rank, name))
        for name, (comm, wait) in waits.items():
            if name and name not in self._told:
                self._told[name] = wait.number
                members = () if name == WORLD else comm._members()
                self._tell(_Wait(self._world.rank, name, wait.number, members))

    def _answer_rank_0(self, channel: Channel) -> None:
        """Tell rank 0 what this rank knows of the calls in which others wait, once there is something to tell."""
        while question := channel.receive(ASK):
            self._questions.setdefault(cast(tuple[int, int], question), None)
        for question, before in list(self._questions.items()):
            answer = self._answer(*question)
            if answer is not None and answer != before:
                self._questions[question] = answer
                self._tell(answer)
            if isinstance(answer, (_Made, _Missing)):
                del self._questions[question]

    def _answer(self, name: int, number: int) -> _Answer | None:
        """What has become of a call on this rank; None where it may still make it, or cannot know."""
        rank, handle = self._world.rank, HANDLES.get(name)
        has_left = self._left_at is not None and time.monotonic() - self._left_at >= PATIENCE
        if handle is None:
            return _Missing(rank, name, number, 0, False) if has_left and remembers_all() else None
        made = max((entry[0] for entry in handle.recent if entry), default=0)
        if made >= number:
            return _Made(rank, name, number, *_checksums(handle.recent, number))
        if has_left or handle.given_up:
            return _Missing(rank, name, number, made, not has_left)
        # It will not make it as long as the thread that would do so waits in another one.
        thread = next((comm._thread for comm in list(self._live) if _name(comm) == name), None)
        others = {each.ident for each in threading.enumerate() if each is not self}
        for comm, wait in self._waits.items():
            # On a communicator that nobody has used yet it may be any thread, but where there is only one.
            is_blocked = comm._thread == thread or (thread is None and others == {comm._thread})
            if wait.seconds >= PATIENCE and _name(comm) > 0 and is_blocked:
                return _Blocked(rank, name, number, (_name(comm), wait.number))
        return None

    def _tell(self, message: _Message) -> None:
        """Send a message to rank 0."""
        if self._world.rank:
            self._send((type(message).__name__, *message), 0, TELL)
        else:
            self._take(message)

    def _send(self, message: object, rank: int, tag: int) -> None:
        assert self._channel is not None
        self._channel.send(message, rank, tag)

    def _take(self, message: _Message) -> None:
        """On rank 0: note what a rank has told."""
        if isinstance(message, _Wait):
            self._waiting[message.rank, message.name] = message
            if message.call not in self._answers:
                self._answers[message.call] = {}
                for rank in message.members or range(self._world.size):
                    if rank:
                        self._send(message.call, rank, ASK)
                    else:
                        self._questions.setdefault(message.call, None)
        elif isinstance(message, _Over):
            self._waiting.pop((message.rank, message.name), None)
            asked = {wait.call for wait in self._waiting.values()}
            self._answers = {call: answers for call, answers in self._answers.items() if call in asked}
        elif message.call in self._answers:
            self._answers[message.call][message.rank] = message

    def _look_at_all(self, channel: Channel) -> None:
        """On rank 0: end the job if a rank waits in a call that another one did not make alike, nor ever will."""
        while message := channel.receive(TELL):
            kind, *fields = cast(tuple[str, Any], message)
            self._take(_KINDS[kind](*fields))
        before, self._suspicion = self._suspicion, self._find_fault()
        if self._suspicion and self._suspicion == before:
            self._end_all(self._suspicion + _RULE)

    def _find_fault(self) -> str:
        """Who waits for what can never come, or ""."""
        groups: dict[tuple[int, int], list[_Wait]] = {}
        for wait in self._waiting.values():
            groups.setdefault(wait.call, []).append(wait)
        for call, waits in sorted(groups.items()):
            first, answers = min(waits), self._answers[call]
            where = f"rank {first.rank} waits in collective call #{first.number}{_of_ranks(first)}, but rank"
            own = answers.get(first.rank)
            for rank, answer in sorted(answers.items()):
                if isinstance(answer, _Missing):
                    has = "dropped the communicator" if answer.has_dropped else "left its program"
                    return f"{where} {rank} has {has} after #{answer.made}"
                if isinstance(answer, _Made) and isinstance(own, _Made) and answer.differs(own):
                    made = answer.text if answer.text != own.text else "other ones before it"
                    return f"{where} {rank} has made another one: {own.text} here, {made} there"
        return self._find_cycle(groups)

    def _find_cycle(self, groups: dict[tuple[int, int], list[_Wait]]) -> str:
        """Which ranks wait for each other in calls of several communicators, or ""."""
        blocked = {}
        for call, waits in groups.items():
            answers = self._answers[call]
            if len(answers) == (len(waits[0].members) or self._world.size):
                blocked[call] = [answer for answer in answers.values() if isinstance(answer, _Blocked)]
        while blocked:
            free = [
                call
                for call, answers in blocked.items()
                if not answers
                or any(
                    answer.waits_in not in blocked
                    or self._waiting.get((answer.rank, answer.waits_in[0]), answer).call != answer.waits_in
                    for answer in answers
                )
            ]
            if not free:
                texts = [
                    f"rank {min(groups[call]).rank} in call #{call[1]}{_of_ranks(groups[call][0])}"
                    for call in blocked
                ]
                return f"ranks wait for each other: {short_list(sorted(texts))}"
            for call in free:
                del blocked[call]
        return ""

    def _check_interrupt(self) -> None:
        """End the job unless the main thread comes back from its call, in which it raises KeyboardInterrupt."""
        main = threading.main_thread().ident
        before = {comm: comm._call for comm in self._active() if comm._thread == main}
        time.sleep(GRACE)
        if any(call is not None and comm._call is call for comm, call in before.items()):
            self._end("interrupted while it waits; ending the job\n")

    def _end_all(self, cause: str) -> None:
        """Let all ranks say where they are, and end the job."""
        if self._channel is not None:
            self._channel.end_others()
        self._end(cause)

    def _end(self, cause: str) -> None:
        """Say why and where this rank is, and end the job."""
        text = cause + self._report()
        # Not by `sys.stderr`, which a test tool may keep to itself. The launcher may mix the lines of ranks.
        lines = "".join(self._prefix + line for line in text.splitlines(keepends=True))
        say(lambda: os.write(2, lines.encode(errors="replace")))
        time.sleep(GRACE)
        self._abort()

    def _active(self) -> list[Communication]:
        """The communicators on which this rank is in a call."""
        with suppress(RuntimeError):  # one was made or freed meanwhile
            return [comm for comm in self._live if comm._call is not None]
        return []

    def _report(self) -> str:
        """Where this rank is: its collective calls, and the stack of each thread."""
        if self._left_at is not None:
            return "has left its program\n"
        frames = sys._current_frames()
        calls = [self._describe(comm, frames.get(comm._thread or 0)) for comm in self._active()]
        threads = {thread.ident: thread.name for thread in threading.enumerate() if thread is not self}
        stacks = [
            f"{threads[ident]}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in frames.items()
            if ident in threads
        ]
        return "".join([*(calls or ["is in no collective call\n"]), *stacks])

    def _describe(self, comm: Communication, frame: FrameType | None) -> str:
        """The call that this rank is in on a communicator, and its line."""
        number, call = comm._call or (comm._calls, ("a call just ended",))
        text = f"waits in {describe_call(call)}, call #{number}"
        if comm in self._waits:
            text += f", since {self._waits[comm].seconds:.1f} s"
        return text + (f" at {call_site(frame)}\n" if frame else "\n")


def _name(comm: Communication) -> int:
    """The name of a communicator on all its ranks; below 0 where they have not agreed on one yet."""
    return comm._handle.name or -1 - zlib.crc32(str(comm._members()).encode())


def _of_ranks(wait: _Wait) -> str:
    """Which communicator a call is of, where it is not that of all ranks."""
    return f" of the communicator of ranks {short_list(wait.members)}" if wait.members else ""


def _checksums(recent: Sequence[tuple[int, Call] | None], number: int) -> tuple[int, int, str]:
    """Checksums of a call and of those before it, 0 where they are not kept, and the call as text."""
    texts = []
    for earlier in range(number, max(0, number - COMPARED), -1):
        entry = recent[earlier % KEPT]
        if entry is None or entry[0] != earlier:
            break
        texts.append(describe_call(entry[1]))
    if not texts:
        return 0, 0, ""
    is_whole = len(texts) == min(number, COMPARED)
    first, *others = (1 + zlib.crc32(text.encode(errors="backslashreplace")) for text in texts)
    return first, 1 + zlib.crc32(str(others).encode()) if is_whole else 0, texts[0][:200]
