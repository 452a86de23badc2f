"""The values of a JSON message arrive as they were written, to the last digit."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.configs import tail, to_files
from tests.e2e.conftest import MakeDaemon

MESSAGES = (
    b'{"n":9007199254740993,"big":123456789012345678901234567890,"negative":-0}',
    b'{"f":0.1,"long":3.14159265358979323846264338327950288,"e":1E400,"small":5e-324,"zero":1.0,"plus":1e+5}',
    rb'{"escapes":"a\"b\\c\/d\b\f\n\r\t\u0000\u00e9\ud83d\ude00","lone":"\ud800"}',
    '{"text":"Zoë 王小明 😀","ключ":"значение"}'.encode(),
    b'{"a":1,"a":2,"b":{"c":1,"c":[1,1]}}',
    b'{"deep":' + b'{"d":' * 200 + b"[]" + b"}" * 200 + b"}",
    b'{"empty":{},"list":[],"null":null,"true":true,"false":false,"":"no name"}',
    b' \t{ "white" : [ 1 , 2 ] } ',
    b'{"@timestamp":"mine","stream":"mine","kubernetes":{"pod_name":"mine"},"kubernetes.pod_name":"mine"}',
    b'{"bytes":"\xff\xfe","cut":"\xe2\x82"}',
)
RENAMED = {"@timestamp", "stream", "kubernetes", "kubernetes.pod_name"}
POD = "shop_cart-1_11111111-2222-3333-4444-555555555555"


async def test_values_arrive_equal_to_the_last_digit(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    log = tmp_path / "pods" / POD / "app" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(
        b"".join(b"2026-11-21T10:00:00.%09dZ stdout F %b\n" % (i, text) for i, text in enumerate(MESSAGES, 1))
    )
    config = {"inputs": [tail(tmp_path / "pods")], "filters": [{"type": "json"}]}
    daemon = make_daemon({**config, "outputs": [to_files(tmp_path / "out")]})
    assert await daemon.once() == 0, daemon.log()
    documents = (tmp_path / "out/shop/cart-1/app.ndjson").read_bytes().splitlines()
    assert len(documents) == len(MESSAGES)
    for i, (document, message) in enumerate(zip(documents, MESSAGES, strict=True), 1):
        written = [(f"{key}_original" if key in RENAMED else key, value) for key, value in pairs(message)]
        ours, theirs = split(pairs(document), len(written))
        assert theirs == written
        assert [key for key, _ in ours] == ["@timestamp", "stream", "kubernetes"]
        assert dict(ours)["@timestamp"] == f"2026-11-21T10:00:00.{i:09d}Z"
        assert dict(dict(ours)["kubernetes"])["pod_name"] == "cart-1"
    await daemon.settled()


def pairs(document: bytes) -> list[tuple[str, Any]]:
    """All of them, of equal keys too, and with numbers as they were spelled."""
    text = document.decode(errors="replace")
    found: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
    return found


def split(found: list[tuple[str, Any]], last: int) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    return found[:-last], found[-last:]
