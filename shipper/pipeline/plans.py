"""What is decided once per container: its plan, and the envelopes of its documents. Made anew when metadata changes."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from shipper import native
from shipper.document import make_envelope, reserved_keys
from shipper.encode import NativeForm, native_form
from shipper.filters.base import Lookup, Metadata, MetadataSource
from shipper.frame import Frame
from shipper.inputs.tail.generation import Generation
from shipper.ledger import UNMATCHED, filtered
from shipper.outputs.base import Output
from shipper.record import Envelope
from shipper.router import EMPTY, Choice, Plan, Router, Subject, first_fitting

ENDED = Metadata(terminated=True)
MOST_ENVELOPES = 64  # kept for one container, and as many targets
MOST_AT_REST = 500  # plans kept at least, whether their files are read to their ends or not
UNUSED_S = 60.0  # so long at least one is kept that was asked for again

Framing = tuple[bytes | None, bytes]  # what an output's `frame` says of a target

K = TypeVar("K")
V = TypeVar("V")


class Way(msgspec.Struct, frozen=True):
    """How records of one container come into one output, all under one target."""

    target: str
    framing: Framing
    envelope: Envelope
    time_prefix: bytes  # what their times must have in common for that
    tag: str
    form: NativeForm | None  # where the native twin knows them


class Prepared(msgspec.Struct):
    """A plan, and what of its documents is the same for many chunks."""

    plan: Plan
    frame: Frame
    ways: dict[str, Way] = msgspec.field(default_factory=dict)  # by output that takes all: the last that was asked for
    is_slim: bool = False  # the plan has forgotten what only envelopes need to know of the metadata
    # for records that do not go that way
    envelopes: dict[Framing, Envelope] = msgspec.field(default_factory=dict)
    # by output and leading part of the time
    targets: dict[tuple[str, bytes], str] = msgspec.field(default_factory=dict)


class Plans:
    """Plans of all generations. Everything here is synchronous; the metadata cache is asked, never waited for."""

    def __init__(
        self,
        router: Router,
        outputs: Sequence[Output],
        metadata: MetadataSource | None,
        *,
        wait_s: float,
        static: Mapping[str, Any],
        limits: Mapping[str, int],
    ) -> None:
        self._router = router
        self._outputs = {o.name: o for o in outputs}
        self._metadata = metadata
        self._wait_s = wait_s
        self._static = static
        self._limits = limits  # input -> max_record_bytes
        self._has_id = {o.name: o.frame("x")[0] is not None for o in outputs}
        self._prepared: dict[int, Prepared] = {}
        self._unused: dict[int, Prepared] = {}  # not asked for since `tend` has put them aside
        self._let_go: set[int] = set()  # files whose plans `rest` has forgotten, and does not forget again
        self._tended_at = float("-inf")
        # by all that they depend on, since thousands of files share a few
        self._frames: dict[tuple[object, ...], Frame] = {}
        self._framings: dict[tuple[str, str], Framing] = {}
        self._targets: dict[tuple[str, bytes], str] = {}  # of templates that do not look at containers
        self._needs_labels = any(o.template.needs_metadata for o in outputs)

    def become(self, other: "Plans") -> None:
        """The other's rules hold from now on, for all who hold this one."""
        vars(self).update(vars(other))

    def of(self, generation: Generation) -> Prepared:
        found = self._prepared.get(generation.id)
        if found is None or found.frame.format != (generation.format or "text"):
            found = self._unused.pop(generation.id, None)
            if found is None or found.frame.format != (generation.format or "text"):
                found = self._prepare(generation)
            self._prepared[generation.id] = found
        return found

    def forget(self, generation: Generation) -> None:
        self._prepared.pop(generation.id, None)
        self._unused.pop(generation.id, None)

    def rest(self, generation: Generation) -> None:
        """It is read to its end. Of thousands of files whose backlog was read, few will be written to soon: where there
        are many, a plan is forgotten then, and kept only where it has to be made once more.
        """
        if len(self._prepared) > MOST_AT_REST and generation.id not in self._let_go:
            self._let_go.add(generation.id)
            self.forget(generation)

    def tend(self, now: float) -> None:
        """To be called now and then (`now`: monotonic): forgets plans that nobody has asked for in a while."""
        if now - self._tended_at >= UNUSED_S:
            self._tended_at = now
            self._let_go.intersection_update(self._prepared)
            self._unused, self._prepared = self._prepared, {}

    def may_ever_take(self, generation: Generation) -> list[str]:
        """Outputs that some record of it could reach: the others hold no cursor there."""
        return self._router.possible_outputs(generation.source, generation.tag)

    def _lookup(self, generation: Generation) -> Metadata | Lookup:
        if self._metadata is None or not self._router.asks_kubernetes(generation.source, generation.tag):
            return EMPTY
        return self._metadata.lookup(generation.source)

    def _prepare(self, generation: Generation) -> Prepared:
        plan = self._router.plan(generation.source, generation.tag, self._lookup(generation))
        return Prepared(plan, self._frame(generation, plan))

    def _frame(self, generation: Generation, plan: Plan) -> Frame:
        source, format_ = generation.source, generation.format or "text"
        key = (source.is_container, source.input, format_, plan.merge_json, plan.keep_message)
        found = self._frames.get(key)
        if found is None:
            reserved = reserved_keys(source, self._static, has_id=any(self._has_id.values()))
            limit = self._limits[source.input]
            found = self._frames[key] = Frame(format_, plan.merge_json, plan.keep_message, reserved, limit)
        return found

    def seconds_to_wait(self, generation: Generation, now: float) -> float:
        """How long its records still wait for labels that only enrich them; 0: not at all."""
        if not self.of(generation).plan.is_waiting:
            return 0.0
        return max(0.0, generation.seen_at + self._wait_s - now)

    def has_ended(self, generation: Generation) -> bool:
        """By its pod's status."""
        metadata = self.of(generation).plan.metadata
        return isinstance(metadata, Metadata) and metadata.terminated

    def waits(self, generation: Generation, output: str) -> bool:
        return self.of(generation).plan.choices[output] is Choice.WAITS

    def fate_unread(self, generation: Generation, output: str) -> str | None:
        """Of all its records, where that is decided without looking at them: the output does not take them."""
        plan = self.of(generation).plan
        if plan.dropped:
            return filtered(*plan.dropped)
        return UNMATCHED if plan.choices[output] is Choice.LEAVES else None

    def way(self, generation: Generation, output: str, time_: bytes) -> Way | None:
        """For records of this time, where no record's fields decide; None where the time does not tell their target."""
        prepared = self.of(generation)
        found = prepared.ways.get(output)
        if found is None or (found.time_prefix and time_key(time_, len(found.time_prefix)) != found.time_prefix):
            found = self._make_way(generation, output, time_)
            if found is not None:
                prepared.ways[output] = found
                self._slim(prepared)
        return found

    def _slim(self, prepared: Prepared) -> None:
        """Where all who take its records have their envelopes, labels are of no use until another day's are made."""
        plan = prepared.plan
        is_complete = all(c is not Choice.TAKES or name in prepared.ways for name, c in plan.choices.items())
        if isinstance(plan.metadata, Metadata) and is_complete and not (plan.rest or self._needs_labels):
            plan.metadata = plan.subject.metadata = ENDED if plan.metadata.terminated else EMPTY
            prepared.is_slim = True

    def _make_way(self, generation: Generation, output: str, time_: bytes) -> Way | None:
        prepared, chars = self.of(generation), self._outputs[output].template.time_chars
        prefix, tags = time_key(time_, chars) if chars else b"", prepared.plan.tags
        if len(prefix) != chars:
            return None
        target = self.target(generation, output, prefix and time_, tags)
        framing = self._framing(output, target)
        envelope = _known_envelope(prepared, framing) or self._make_envelope(generation, prepared, framing)
        is_native = native.MODULE is not None and prepared.frame.format == "cri"
        form = native_form(prepared.frame, envelope) if is_native else None
        return Way(target, framing, envelope, prefix, tags[0] if tags else "", form)

    def _framing(self, output: str, target: str) -> Framing:
        found = self._framings.get((output, target))
        return found or _keep(self._framings, (output, target), self._outputs[output].frame(target))

    def target(self, generation: Generation, output: str, time_: bytes, tags: Sequence[str]) -> str:
        """The output's template, rendered for records of this time and these tags."""
        prepared, template = self.of(generation), self._outputs[output].template
        key = (output, time_key(time_, template.time_chars) if template.time_chars else b"")
        if tags is not prepared.plan.tags and "tag" in template.placeholders:
            return self._render(output, prepared.plan.subject, time_, tags)
        cache = self._targets if template.placeholders <= {"time"} else prepared.targets
        if key in cache:
            return cache[key]
        return _keep(cache, key, self._render(output, prepared.plan.subject, time_, tags))

    def record_target(
        self, generation: Generation, output: str, time_: bytes, tags: Sequence[str], record: Mapping[str, Any]
    ) -> str:
        """For a template that looks at the record's own fields."""
        subject = msgspec.structs.replace(self.of(generation).plan.subject, record=record)
        return self._render(output, subject, time_, tags)

    def _render(self, output: str, subject: Subject, time_: bytes, tags: Sequence[str]) -> str:
        out, match = self._outputs[output], self._router.routes[output].match

        def value(kind: str, name: str) -> str | None:
            return first_fitting(match, tags) if kind == "tag" else subject.value(kind, name)

        return out.template.render(value, style=out.target_style, time=time_)

    def envelope(self, generation: Generation, output: str, target: str) -> Envelope:
        prepared, framing = self.of(generation), self._framing(output, target)
        found = _known_envelope(prepared, framing)
        if found is None:
            found = _keep(prepared.envelopes, framing, self._make_envelope(generation, prepared, framing))
        return found

    def _make_envelope(self, generation: Generation, prepared: Prepared, framing: Framing) -> Envelope:
        metadata = self._lookup(generation) if prepared.is_slim else prepared.plan.metadata
        return make_envelope(
            generation.source,
            base=generation.id_base,
            frame=framing,
            document=metadata.document if isinstance(metadata, Metadata) else {},
            static=self._static,
        )


def _known_envelope(prepared: Prepared, framing: Framing) -> Envelope | None:
    """Outputs that frame their documents alike share one."""
    for way in prepared.ways.values():
        if way.framing == framing:
            return way.envelope
    return prepared.envelopes.get(framing)


def _keep(cache: dict[K, V], key: K, value: V) -> V:
    """One that is full begins anew: what is asked for once more is made once more."""
    if len(cache) >= MOST_ENVELOPES:
        cache.clear()
    cache[key] = value
    return value


def time_key(time_: bytes, chars: int) -> bytes:
    """Records of one key have one target: so much of the time as the template looks at, if it is in UTC."""
    return time_[:chars] if time_.endswith((b"Z", b"+00:00")) else time_
