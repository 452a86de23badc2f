"""What a key tells of its object: enough to leave out what cannot fit, and never more than is true."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.outputs.s3.keys import fill_key, new_id
from shipper.replay.keys import KeyPattern
from shipper.template import Template

USUAL = "logs/{time:%Y/%m/%d/%H}/{namespace}/{node}-{id}.ndjson.gz"
ELEVEN = "logs/2026/11/21/11/shop/node-1-20261121T110000000000Z-5f0e8c1ab27d.ndjson.gz"
TEMPLATES = [
    USUAL,
    "logs/day={time:%Y-%m-%d}/hour={time:%H}/{namespace}/{pod}-{id}.parquet",
    "{namespace}/{time:%Y%m%d}-{time:%H%M}/{id}",
    "a/{namespace}-{pod}/{time:%Y-%m}/{id}",
    "{time:%d}/{time:%Y}/{time:%Y}/{namespace}/{namespace}/{label:app}/{id}",
    "{node}/{time:%j}/{id}",
    "all/{id}",
]


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("since", "until", "namespace", "fits"),
    [
        (None, None, None, True),
        ("2026-11-21T11:30Z", "2026-11-21T11:31Z", "shop", True),
        ("2026-11-21T10:00Z", "2026-11-21T11:00Z", None, False),
        ("2026-11-21T12:00Z", None, None, False),
        (None, "2026-11-21T11:00:01Z", None, True),
        ("2026-11-21T11:59:59Z", None, None, True),
        (None, None, "sho", False),
        (None, None, "bank", False),
    ],
)
def test_another_hour_or_namespace_is_left_out(
    since: str | None, until: str | None, namespace: str | None, fits: bool
) -> None:
    told = {"since": since and at(since), "until": until and at(until)}
    numbers = {name: float(value) if value else None for name, value in told.items()}
    pattern = KeyPattern(Template.parse(USUAL))
    assert pattern.may_hold(ELEVEN, since=numbers["since"], until=numbers["until"], namespace=namespace) is fits


def test_a_key_that_tells_nothing_may_hold_anything() -> None:
    for key in ("other/key", ELEVEN.replace("2026/11/21/11", "unknown"), ELEVEN.replace("11/21", "02/30")):
        assert KeyPattern(Template.parse(USUAL)).may_hold(
            key, since=at("2030-01-01T00:00Z"), until=None, namespace=None
        )


def test_a_namespace_that_is_no_folder_by_itself_is_not_guessed_at() -> None:
    pattern = KeyPattern(Template.parse("a/{namespace}-{pod}/{id}"))
    for namespace in ("shop", "shop-a", "other"):
        assert pattern.may_hold("a/shop-a-b/x", since=None, until=None, namespace=namespace)


@given(
    template=st.sampled_from(TEMPLATES).map(Template.parse),
    namespace=st.sampled_from(["shop", "a-b", "kube-system", "x" * 140]),
    moment=st.floats(9.5e8, 4.1e9),
    before=st.floats(0, 1e7),
    after=st.floats(0.001, 1e7),
)
def test_the_object_of_a_wanted_record_is_never_left_out(
    template: Template, namespace: str, moment: float, before: float, after: float
) -> None:
    stamp = dt.datetime.fromtimestamp(moment, dt.UTC)
    values = {"namespace": namespace, "pod": "p-1-2", "node": "n-1", "label": "l/../x"}
    text = stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
    target = template.render(lambda kind, _name: values.get(kind), style="key", time=text)
    key = fill_key(target, new_id(moment))
    assert KeyPattern(template).may_hold(key, since=moment - before, until=moment + after, namespace=namespace)
