"""Reads: what a thread does between two steps of the event loop."""

from collections.abc import Sequence
from dataclasses import dataclass

from shipper import native
from shipper.inputs.tail.generation import Generation
from shipper.ledger import Cursor
from shipper.pipeline.drafts import Draft

QUANTUM_BYTES = (1024 if native.MODULE is not None else 256) * 1024  # of one read of one file


@dataclass(slots=True)
class Job:
    """One read, for outputs that stand at the same position."""

    generation: Generation
    cursors: list[Cursor]
    position: int
    length: int
    data: bytes = b""
    size: int = 0  # of what was read, also when it is let go
    following: Generation | None = None  # a seam: its head is read too
    head: bytes = b""
    error: OSError | None = None
    most_lines: int | None = None
    draft: Draft | None = None
    is_behind: bool = False  # a gzipped file is still on its way to `position`

    def take(self, data: bytes) -> None:
        """What was read; lines beyond `most_lines` are left for the next read."""
        if self.most_lines is not None and native.count_lines(data) > self.most_lines:
            self.length = len(data) - len(data.split(b"\n", self.most_lines)[-1])
            data = data[: self.length]
        self.data, self.size = data, len(data)

    def write_draft(self) -> None:
        """Whose bytes are let go at once: the next ones then come into the same memory, and find it in the cache."""
        draft = self.draft
        if draft is not None:
            draft.write(self.data, is_end=self.is_at_end and draft.ends_here)
            if draft.has_advanced:
                self.data = b""

    def restore(self) -> bool:
        """Reads again what was let go, and is in the page cache still. -> whether it is there. Raises OSError."""
        if len(self.data) < self.size and self.generation.file is not None:
            self.data = self.generation.file.read(self.position, self.size)
        return len(self.data) == self.size

    @property
    def is_whole(self) -> bool:
        return self.size == self.length

    @property
    def is_at_end(self) -> bool:
        return self.is_whole and self.position + self.length >= self.generation.end


def read_all(jobs: Sequence[Job]) -> int:
    """Reads, and writes drafts, until a batch is full. Blocks. A failure stands in the job. -> how many were done."""
    for number, job in enumerate(jobs):
        if number and job.draft is not None and not job.draft.has_room:
            return number
        file = job.generation.file
        try:
            if file is not None and not file.prepare(job.position, job.length):
                job.is_behind = True
                continue
            job.take(file.read(job.position, job.length) if file is not None else b"")
            job.write_draft()
            if job.following is not None and job.following.file is not None:
                job.head = job.following.file.read(0, min(QUANTUM_BYTES, job.following.end))
        except OSError as exc:
            job.error = exc
    return len(jobs)
