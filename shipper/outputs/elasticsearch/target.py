"""Where a document goes: an index, and a shard of it when `routing` says which.

Both are one target, `logs-shop-default?routing=cart`, so that whatever is decided or kept by target (envelopes, dead
letters) knows both.
"""

from functools import cached_property

from shipper.template import Style, Template, Values

_ROUTING = "?routing="  # no index name has a question mark


class RoutedTemplate(Template, frozen=True):
    routing: Template

    @cached_property
    def placeholders(self) -> frozenset[str]:
        """Of both: what a target depends on."""
        return Template(self.text, self.parts).placeholders | self.routing.placeholders

    def render(self, values: Values, *, style: Style, time: bytes = b"") -> str:
        index = super().render(values, style=style, time=time)
        return index + _ROUTING + self.routing.render(values, style="tag")


def make_template(index: Template, routing: Template | None) -> Template:
    return index if routing is None else RoutedTemplate(index.text, index.parts, routing)


def split_target(target: str) -> tuple[str, str | None]:
    """-> index, routing."""
    index, found, routing = target.partition(_ROUTING)
    return index, routing if found else None
