"""Files that are whole, and what accidents make of them."""

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Damage:
    """Done in this order; places count modulo the length."""

    flips: list[tuple[int, int]]  # place, which bit
    writes: list[tuple[int, bytes]]
    length: int | None  # cut off there

    def of(self, data: bytes) -> bytes:
        out = bytearray(data)
        for place, bit in self.flips if out else ():
            out[place % len(out)] ^= 1 << bit
        for place, text in self.writes if out else ():
            at = place % len(out)
            out[at : at + len(text)] = text
        return bytes(out if self.length is None else out[: self.length % (len(out) + 1)])


PLACES = st.integers(0, 2**20)
DAMAGES = st.builds(
    Damage,
    st.lists(st.tuples(PLACES, st.integers(0, 7)), max_size=6),
    st.lists(st.tuples(PLACES, st.binary(max_size=40)), max_size=3),
    st.none() | PLACES,
)
