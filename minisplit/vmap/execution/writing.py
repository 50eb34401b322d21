"""Functions that write into tensors which they make: mapped again, with room for the samples in what they make."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from minisplit.core.collectives import Tensors
from minisplit.vmap.execution.collect import Mapped
from minisplit.vmap.execution.execute import VmapTask
from minisplit.vmap.functorch.factories import is_refused_write, with_room_for_samples


@dataclass(frozen=True, slots=True)
class WritingTask(VmapTask):
    """A `VmapTask` whose function may write what differs between samples into a tensor that it makes.

    Most functions do not, and a tensor that is the same for all samples takes less memory and time. So the
    function is mapped as it is, and only where torch refuses the write once more, in another way.

    Attributes
    ----------
    known : set of str
        Not empty once the function is known to write so. It outlasts the task, so that later chunks and calls
        begin with what works.
    """

    known: set[str] = field(default_factory=set)

    def run(self, tensors: Tensors, samples: int, start: int = 0) -> Mapped:
        """Map over all of that many samples. See `VmapTask.run`."""
        if not self.known:
            try:
                return VmapTask.run(self, tensors, samples, start)
            except RuntimeError as error:
                if not is_refused_write(error):
                    raise
        mapped = VmapTask.run(self._with_room(), tensors, samples, start)
        self.known.add("writes")
        return mapped

    def check_first(self, tensors: Tensors, part: Mapped, start: int) -> None:
        """Map the first sample of a chunk once more, alone. See `VmapTask.check_first`."""
        VmapTask.check_first(self._with_room() if self.known else self, tensors, part, start)

    def _with_room(self) -> WritingTask:
        return replace(self, func=with_room_for_samples(self.func))
