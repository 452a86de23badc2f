"""All log file generations that the state knows, and the inputs that look for their files."""

from collections.abc import Iterable, Iterator

from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.input import TailInput


class Registry:
    def __init__(self, next_id: int) -> None:
        self.inputs: list[TailInput] = []
        self._by_id: dict[int, Generation] = {}
        self._by_uid: dict[str, tuple[Generation, ...]] = {}  # of the pod; mostly of one
        self._next_id = next_id

    def __repr__(self) -> str:
        return f"<Registry of {len(self._by_id)} generations>"

    def __iter__(self) -> Iterator[Generation]:
        """In the order in which they were found."""
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Generation]:
        return reversed(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def add(self, generation: Generation) -> None:
        self._by_id[generation.id] = generation
        uid = generation.source.uid
        if uid is not None:
            self._by_uid[uid] = (*self._by_uid.get(uid, ()), generation)

    def remove(self, generation: Generation) -> None:
        del self._by_id[generation.id]
        uid = generation.source.uid
        if uid is not None:
            left = tuple(g for g in self._by_uid.pop(uid) if g is not generation)
            if left:
                self._by_uid[uid] = left

    def find(self, id_: int) -> Generation | None:
        return self._by_id.get(id_)

    def of_pod(self, uid: str) -> Iterable[Generation]:
        return self._by_uid.get(uid, ())

    def pods(self) -> Iterator[tuple[str, Iterable[Generation]]]:
        """Uids with their generations."""
        return iter(self._by_uid.items())

    def input_of(self, generation: Generation) -> TailInput:
        """The one that it is with."""
        return next(tail for tail in self.inputs if tail.name == generation.source.input)

    def home_of(self, generation: Generation) -> TailInput | None:
        """The one that takes its file, by what is configured now: its own, if that does."""
        own_first = sorted(self.inputs, key=lambda tail: tail.name != generation.source.input)
        live_path, path = generation.source.path, generation.path
        return next((tail for tail in own_first if tail.scanner.covers(live_path, path)), None)
