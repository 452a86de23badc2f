"""The page for people: what is wrong stands at its top, and whatever names and errors say is text."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.page import POLICY, render, show_rate, show_size, show_time

NOW = 1_000_000.0
OUTPUT: dict[str, Any] = {
    "name": "es",
    "type": "elasticsearch",
    "state": "idle",
    "in_flight_bytes": 0,
    "last_error": "",
    "last_error_at": None,
    "retry_at": None,
    "rejected_records": 0,
    "backlog_bytes": 2048,
    "backlog_seconds": 3.0,
    "delivered_records": 12345,
    "records_per_s": 1000.0,
    "lost_bytes": 0,
    "gaps": 0,
}
INPUT: dict[str, Any] = {
    "name": "pods",
    "path": ["/var/log/pods/*/*/*.log"],
    "files": 30,
    "open_files": 29,
    "excluded": 1,
    "unreadable": {},
    "records_per_s": 1000.0,
}
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "node": "node-1",
    "native": "yes",
    "started_at": NOW - 7200,
    "reload": {"last_success_at": None, "last": None},
    "paused": False,
    "inputs": [INPUT],
    "files": [],
    "outputs": [OUTPUT],
    "removed_outputs": [],
    "kubernetes": {"pods": 30, "error": ""},
    "checkpoint": {"last_error": None, "failures": 0},
}


class Page(HTMLParser):
    """Its elements and attributes, and its text without style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += f" {data}"


def page(**changed: Any) -> Page:
    return Page(render({**STATUS, **changed}, now=NOW))


def test_what_is_well_is_said_with_its_figures() -> None:
    text = page().text
    for part in ("shipper on node-1", "native encoder", "up for 2.0 h", "All is well.", "12,345", "1,000", "2.0 KiB"):
        assert part in text


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"outputs": [{**OUTPUT, "lost_bytes": 2048}]}, "es has lost 2.0 KiB"),
        ({"outputs": [{**OUTPUT, "gaps": 1}]}, "nobody knows how large"),
        ({"outputs": [{**OUTPUT, "state": "retrying", "retry_at": NOW + 3}]}, "es does not get through"),
        ({"paused": True}, "no output has room"),
        ({"checkpoint": {"last_error": "disk full", "failures": 1}}, "cannot be written: disk full"),
        ({"reload": {"last": {"problems": ["x.yaml:1:1: wrong"]}}}, "refused: x.yaml:1:1: wrong"),
        ({"inputs": [{**INPUT, "unreadable": {"/a": "no right"}}]}, "pods: 1 files cannot be read"),
        ({"kubernetes": {"pods": 0, "error": "403"}}, "the Kubernetes API: 403"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_stands_at_the_top(changed: dict[str, Any], sentence: str) -> None:
    text = page(**changed).text
    assert sentence in text[: text.index("Outputs")]
    assert "All is well." not in text


def test_errors_say_when_and_how_to_mend_them() -> None:
    plain = {**OUTPUT, "state": "retrying", "retry_at": NOW + 3, "last_error": "refused", "last_error_at": NOW - 60}
    assert "retrying, again in 3.0 s" in page(outputs=[plain]).text
    assert "refused (60 s ago)" in page(outputs=[plain]).text
    mendable = {**OUTPUT, "spool_bytes": 1024, "last_error": {"error": "no bucket", "mend": "make it"}}
    assert "no bucket; make it" in page(outputs=[mendable]).text
    assert "1.0 KiB" in page(outputs=[mendable]).text


def test_removed_outputs_and_files_with_backlog_are_shown() -> None:
    files = [
        {"path": f"/logs/{i}.log", "size": 4096, "backlog_bytes": {"es": 1024, "s3": 0}, "waits_for_metadata": i == 0}
        for i in range(12)
    ]
    removed = [{"name": "old", "since": NOW - 3600, "left_bytes": 512}]
    text = page(files=files, removed_outputs=removed).text
    assert "removed 60.0 min ago" in text
    assert "the largest 10" in text
    assert "/logs/9.log" in text
    assert "/logs/10.log" not in text
    assert "es 1.0 KiB" in text


def test_it_refreshes_itself_unless_it_is_told_not_to() -> None:
    def is_refreshing(*, is_still: bool) -> bool:
        elements = Page(render(STATUS, now=NOW, is_still=is_still)).elements
        return any(attributes.get("http-equiv") == "refresh" for _, attributes in elements)

    assert is_refreshing(is_still=False)
    assert not is_refreshing(is_still=True)


def test_only_its_own_style_is_allowed() -> None:
    found = page()
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    assert POLICY.endswith(f"style-src 'sha256-{digest}'")
    assert POLICY.startswith("default-src 'none'; ")
    assert not {tag for tag, _ in found.elements} & {"script", "link", "img", "iframe", "object", "form"}
    assert not [attributes for _, attributes in found.elements if {"style", "src", "onclick"} & attributes.keys()]
    assert not re.search(r"url\(|@import|https?:", found.style)


def test_it_has_what_a_screen_reader_needs() -> None:
    elements = page().elements
    assert ("html", {"lang": "en"}) in elements
    tags = [tag for tag, _ in elements]
    assert all(tags.count(tag) == 1 for tag in ("title", "h1", "main", "header", "footer"))
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in elements if tag == "th")


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("<>&\"'\udcff")))
def test_whatever_a_name_or_an_error_is_it_is_text(text: str) -> None:
    assert named(text + "x").elements == named("x").elements


def named(text: str) -> Page:
    return page(
        node=text,
        outputs=[{**OUTPUT, "name": text, "last_error": text, "state": "retrying"}],
        inputs=[{**INPUT, "name": text, "path": [text], "unreadable": {text: text}}],
        files=[{"path": text, "size": 1, "backlog_bytes": {text: 1}, "waits_for_metadata": True}],
        removed_outputs=[{"name": text, "since": NOW, "left_bytes": 1}],
        reload={"last": {"problems": [text]}},
        kubernetes={"pods": 1, "error": text},
        checkpoint={"last_error": text, "failures": 1},
    )


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_size(0), "0 B"),
        (show_size(1023), "1,023 B"),
        (show_size(1536), "1.5 KiB"),
        (show_size(5 * 2**40), "5.0 TiB"),
        (show_time(0), "0 s"),
        (show_time(2.5), "2.5 s"),
        (show_time(89), "89 s"),
        (show_time(300), "5.0 min"),
        (show_time(7200), "2.0 h"),
        (show_time(9 * 86400), "9 d"),
        (show_rate(0.0), "0"),
        (show_rate(3.25), "3.2"),
        (show_rate(12345.6), "12,346"),
    ],
)
def test_figures_are_short(shown: str, expected: str) -> None:
    assert shown == expected
