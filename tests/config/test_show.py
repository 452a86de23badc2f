from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.config.loader import load_text
from shipper.config.show import config_hash, dump, show_plain
from shipper.outputs.elasticsearch.config import ElasticsearchConfig

FULL = """
service:
  state_dir: /tmp/x
  memory_limit: 256MiB
  http: off
  fields: {cluster: prod, "on": yes, n: 1.5, deep: [{a: ~}, true, "1", "1e3", "$${X}"]}
inputs:
  - {type: tail, name: pods, path: ["/a/**/*.log", /b], namespaces: {include: [team-*]}, rescan: 1.5s}
  - {type: tail, name: other, path: /c, tag: "local.{stem}", format: text, max_record_bytes: 1500B}
filters:
  - {type: kubernetes, api: {url: "http://127.0.0.1:1"}, labels: false, annotations: [a/*], wait: 0s}
  - {type: kubernetes, name: k2, api: off, node_labels: true}
  - {type: json, keep_message: true}
  - type: tag
    rules:
      - {when: {label: v, equals: 1.10}, add: "a.{label:app}"}
      - {when: {any: [{pod: [a, b]}, {not: {message: , matches: "^a{2}$"}}, {stream: , exists: true}]}, set: b}
      - {add: c}
  - {type: drop, when: [{annotation: keep, exists: false}, {tag: "yes"}]}
outputs:
  - {type: elasticsearch, hosts: [http://a:9200], index: "x-{time:%Y}", data_stream: false, timeout: 1m}
  - {type: s3, bucket: b, sse: {kms_key_id: k}, tags: {a: "1"}, auth: {profile: p}, object: {max_age: 90s}}
  - {type: file, path: "a/{dir}", rotate: {max_bytes: 10MB}, batch: {max_age: 0.5ms}}
  - {type: stdout, match: [kube.*, a.*]}
"""


def test_what_is_shown_loads_again_to_the_same() -> None:
    config = load_text(FULL, environ={})
    shown = dump(config)
    assert load_text(shown, environ={}) == config
    assert dump(load_text(shown, environ={})) == shown


def test_durations_and_sizes_have_units() -> None:
    shown = dump(load_text(FULL, environ={}))
    for line in ("memory_limit: 256MiB", "drain_timeout: 20s", "max_age: 0.5ms", "max_bytes: 10000000B", "timeout: 1m"):
        assert line in shown


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(lambda key: "x" + key),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(min_value=-(10**17), max_value=10**17)
            | st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
            lambda inner: st.lists(inner, max_size=3),
        ),
        max_size=4,
    )
)
def test_any_static_field_is_shown_so_that_it_loads_again(fields: dict[str, object]) -> None:
    text = yaml.safe_dump({"service": {"fields": show_plain(fields)}}, allow_unicode=True)
    config = load_text(text + "inputs: [{type: tail, path: /a}]\noutputs: [{type: stdout}]\n", environ={})
    assert config.service.fields == fields
    assert load_text(dump(config), environ={}) == config


def secrets(tmp_path: Path) -> str:
    (tmp_path / "key").write_text("s3cret-key", encoding="utf-8")
    return (
        "service: {http: {token: hunter2}}\ninputs: [{type: tail, path: /a}]\noutputs:\n"
        "- {type: elasticsearch, hosts: 'http://es', index: a, auth: {username: u, password: '${PASSWORD}'}}\n"
        "- {type: elasticsearch, name: b, hosts: 'http://es', index: a,\n"
        f"   auth: {{api_key: {{file: {tmp_path}/key}}}}}}\n"
        "- {type: s3, bucket: b, auth: {access_key: AKIAEXAMPLE, secret_key: hunter4}}\n"
    )


def test_no_secret_is_shown(tmp_path: Path) -> None:
    config = load_text(secrets(tmp_path), environ={"PASSWORD": "hunter3"})
    for shown in (dump(config), repr(config), str(config)):
        for secret in ("hunter2", "hunter3", "hunter4", "AKIAEXAMPLE", "s3cret-key"):
            assert secret not in shown
    assert dump(config).count("<secret>") == 4
    again = load_text(dump(config), environ={})
    assert dump(again) == dump(config)
    output = again.outputs[1]
    assert isinstance(output, ElasticsearchConfig)
    assert output.auth.api_key is not None
    assert output.auth.api_key.get() == "s3cret-key"


def test_the_hash_changes_with_the_content_and_not_with_its_form() -> None:
    one = load_text(FULL, environ={})
    same = load_text("# a comment\n" + FULL.replace("256MiB", "262144KiB"), environ={})
    other = load_text(FULL.replace("256MiB", "257MiB"), environ={})
    assert config_hash(one) == config_hash(same) != config_hash(other)
    assert float(config_hash(one)) == config_hash(one)


@pytest.mark.parametrize("seconds", ["1ms", "1s", "90s", "1h", "36h", "7d", "0.1s", "1.1s", "0s"])
def test_a_duration_survives(seconds: str) -> None:
    text = f"service: {{history: {seconds}}}\ninputs: [{{type: tail, path: /a}}]\noutputs: [{{type: stdout}}]\n"
    config = load_text(text, environ={})
    assert load_text(dump(config), environ={}).service.history == config.service.history
