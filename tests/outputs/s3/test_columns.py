"""A document taken apart into columns is put together again equal, to the last digit."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from shipper.outputs.s3.columns import Pods, Record, document_of, kubernetes_of, pod_columns, record_of

HEAD = b'{"_id":"1f-ab-0-64","@timestamp":"2026-11-21T10:00:00.123456789Z"'
POD = b',"stream":"stderr","kubernetes":{"namespace_name":"shop","pod_name":"cart","host":"n","labels":{"a":"b"}}'
FILE = b',"file":{"path":"/a/\\"b\\".log","offset":17}'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["message", "truncated", "parse_error", "fields", "level", "file_path"]) | st.text(max_size=6)


def there_and_back(document: bytes) -> tuple[Record, bytes]:
    pods = Pods()
    record = record_of(document, pods)
    return record, document_of(record, [kubernetes_of(pod_columns(one)) for one in pods.objects])


def exact(document: bytes) -> Any:
    """With the digits of numbers as they are written."""
    return json.loads(document, parse_float=str, parse_int=str)


@given(members=st.dictionaries(KEYS, VALUES, max_size=5), beginning=st.sampled_from([HEAD, HEAD + POD, HEAD + FILE]))
def test_any_document_comes_back_equal(members: dict[str, Any], beginning: bytes) -> None:
    own = json.dumps(members).encode()[1:]
    document = beginning + (b"," if members else b"") + own
    assert exact(there_and_back(document)[1]) == exact(document)


def test_each_part_has_its_column() -> None:
    record, _ = there_and_back(HEAD + POD + b',"message":"m","truncated":true,"parse_error":"cri","cluster":"prod"}')
    assert record == Record(
        id="1f-ab-0-64",
        time_text="2026-11-21T10:00:00.123456789Z",
        stream="stderr",
        pod=0,
        file_path=None,
        file_offset=None,
        message="m",
        truncated=True,
        parse_error="cri",
        fields='{"cluster":"prod"}',
    )
    of_file, _ = there_and_back(HEAD + FILE + b',"message":{"not":"a text"},"truncated":"maybe"}')
    assert (of_file.file_path, of_file.file_offset, of_file.message) == ('/a/"b".log', 17, None)
    assert of_file.fields == '{"message":{"not":"a text"},"truncated":"maybe"}'


def test_what_the_pod_adds_is_taken_apart_once() -> None:
    pods = Pods()
    other = POD.replace(b"cart", b"till")
    for beginning in (POD, other, POD, POD, other):
        record_of(HEAD + beginning + b',"message":"m"}', pods)
    assert len(pods.objects) == 2
    owner = b'{"namespace_name":"shop","labels":{"a/b":"c"},"annotations":{"x":"y"},"owner":{"kind":"Job","name":"j"}}'
    columns = pod_columns(owner)
    assert columns == {
        "namespace_name": "shop",
        "labels": [("a/b", "c")],
        "annotations": [("x", "y")],
        "kubernetes": '{"owner":{"kind":"Job","name":"j"}}',
    }
    assert kubernetes_of(columns) == owner
    assert kubernetes_of(pod_columns(b"{}")) == b"{}"


def test_numbers_keep_their_digits() -> None:
    members = b',"a":1.50,"b":12345678901234567890123,"c":-0.0,"d":1E400}'
    record, back = there_and_back(HEAD + POD + members)
    assert record.fields == "{" + members[1:].decode()
    assert back.endswith(members)


def test_what_json_allows_and_python_does_not_stands_in_fields_as_it_came() -> None:
    for members in (b',"message":"\\ud800"}', b',"a":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        record, back = there_and_back(HEAD + POD + members)
        assert (record.pod, record.message) == (0, None)
        assert record.fields is not None
        assert record.fields.encode() == b"{" + members[1:]
        assert back == HEAD + POD + members


def test_a_document_of_another_shape_is_kept_whole() -> None:
    for document in (b'{"message":"no time"}', b"{}", b'{"_id":"a","@timestamp":"x","stream":"stdout","kubernetes":7}'):
        record, back = there_and_back(document)
        assert record.id is None
        assert orjson.loads(back) == orjson.loads(document)
