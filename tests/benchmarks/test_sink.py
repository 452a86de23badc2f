"""Both sinks answer as a bulk endpoint, count, and keep what they got."""

import gzip
import http.client
import json
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import zstandard

from benchmarks.world.sink import Language, Sink, start_sink
from benchmarks.world.sums import sums_of

NO_COMPILER = not any(map(shutil.which, ("cc", "gcc", "clang")))
UIDS = ("0b8a7c1e-4c35-4f0e-9d3b-6f1f6f7f2a11", "5c9c1a3e-5b0c-4e0a-9c39-0d3d8d0f6a11")
BODY = b'{"create":{"_id":"a"}}\n{"m":1}\n{"create":{}}\n{"m":2}\n'


@pytest.fixture(params=["C", "Python"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    language: Language = request.param
    if language == "C" and NO_COMPILER:
        pytest.skip("there is no C compiler on PATH")
    with start_sink(tmp_path / "spill", language=language) as started:
        assert started.language == language
        yield started


def test_answers_like_elasticsearch_and_keeps_the_connection(sink: Sink) -> None:
    client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=100)
    client.request("GET", "/")
    answer = client.getresponse()
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    assert json.loads(answer.read())["version"]["number"].startswith("9.")
    connected = client.sock
    for path in ("/_bulk", "/logs-a/_bulk?filter_path=errors"):
        client.request("POST", path, BODY)
        answer = json.loads(client.getresponse().read())
        assert answer == {"errors": False, "items": [{"create": {"status": 201}}] * 2}
    assert client.sock is connected
    client.close()
    assert (sink.counts().requests, sink.counts().newlines, sink.counts().bytes) == (2, 8, 2 * len(BODY))


def test_keeps_bodies_and_finds_the_documents_in_them(sink: Sink) -> None:
    client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=100)
    for body in (BODY, b"", BODY):
        client.request("POST", "/_bulk", body)
        assert client.getresponse().read().endswith(b"]}")
    client.close()
    assert list(sink.bodies()) == [BODY, b"", BODY]
    assert list(sink.documents())[:2] == [(b"a", b'{"m":1}'), (None, b'{"m":2}')]


def test_compressed_bodies_are_unpacked_or_refused(sink: Sink) -> None:
    client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=100)
    client.request("POST", "/_bulk", gzip.compress(BODY), {"Content-Encoding": "gzip"})
    answer = client.getresponse()
    assert (answer.status, len(answer.read()) > 0) == (200 if sink.language == "Python" else 415, True)
    assert sink.counts().newlines == (4 if sink.language == "Python" else 0)
    client.close()


def test_the_sink_for_compressed_bodies_takes_them() -> None:
    with start_sink(compressed=True) as sink:
        assert sink.language == "Python"


def test_json_lines_packed_with_zstd_are_counted() -> None:
    with start_sink(compressed=True) as sink:
        client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=100)
        body = zstandard.compress(b'{"a":1}\n{"a":2}\n{"a":3}\n')
        client.request("POST", "/insert/jsonline?version=v1", body, {"Content-Encoding": "zstd"})
        assert client.getresponse().status == 200
        client.close()
        assert (sink.counts().requests, sink.counts().newlines) == (1, 3)


def test_a_client_that_asks_first_is_told_to_go_on(sink: Sink) -> None:
    with socket.create_connection(("127.0.0.1", sink.port), timeout=100) as client:
        head = f"POST /_bulk HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    assert sink.counts().newlines == 4


def test_large_bodies_of_many_clients_do_not_mix(sink: Sink) -> None:
    def send(letter: bytes) -> None:
        client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=100)
        for _ in range(3):
            client.request("POST", "/_bulk", letter * 3_000_000)
            client.getresponse().read()
        client.close()

    threads = [threading.Thread(target=send, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sink.bodies()) == sorted([b"a" * 3_000_000, b"b" * 3_000_000, b"c" * 3_000_000] * 3)


def test_a_body_that_was_cut_off_is_not_told(sink: Sink) -> None:
    client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=100)
    client.request("POST", "/_bulk", BODY)
    client.getresponse().read()
    client.putrequest("POST", "/_bulk")
    client.putheader("Content-Length", str(len(BODY)))
    client.endheaders(BODY[:10])
    client.close()
    assert sink.counts().requests >= 1
    assert list(sink.bodies()) == [BODY]


def document_of(place: int, uid: str, pod: str, text: str) -> bytes:
    metadata = f'"kubernetes":{{"namespace_name":"shop","pod_name":"{pod}","pod_id":"{uid}","container_name":"app"}}'
    return f'{{"create":{{"_id":"{pod}-{place:x}"}}}}\n{{"@timestamp":"T{place}",{metadata},"m":"{text}"}}\n'.encode()


@pytest.mark.skipif(NO_COMPILER, reason="there is no C compiler on PATH")
def test_sums_of_each_pods_documents_are_those_that_are_slowly_found() -> None:
    texts = ["x" * (37 * n % 500) for n in range(6000)]  # more than is read at once
    documents = [document_of(n, UIDS[n % 3 % 2], f"cart-{n % 3 % 2}", text) for n, text in enumerate(texts)]
    bodies = [b"".join(documents), BODY, b"", b"".join(documents[:10])]
    with start_sink(sums=True) as sink:
        client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=10)
        for body in bodies:
            client.request("POST", "/_bulk", body)
            client.getresponse().read()
        client.close()
        found = sink.sums()
    assert set(found) == {*UIDS, "-"}
    assert found == sums_of(bodies)


def test_sums_are_the_same_for_a_copy_in_any_order_and_others_for_any_other_document() -> None:
    def sums(pod: int, places: Iterable[int], text: str = "a") -> tuple[int, int]:
        ((uid, found),) = sums_of([document_of(n, UIDS[pod], f"cart-{pod}", text) for n in places]).items()
        assert uid == UIDS[pod]
        return found

    assert sums(0, range(9)) == sums(1, reversed(range(9)))
    others = [sums(0, range(8)), sums(0, range(10)), sums(0, range(1, 10)), sums(0, range(9), "b"), sums(0, [0] * 9)]
    assert sums(0, range(9)) not in others
