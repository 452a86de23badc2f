from pathlib import Path

import pytest

from shipper import conditions
from shipper.conditions import All, AnyOf, Not
from shipper.config.loader import load, load_text
from shipper.config.model import Config
from shipper.filters.drop import DropConfig
from shipper.filters.kubernetes.config import KubernetesApiConfig, KubernetesConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.file import FileConfig
from shipper.outputs.s3.config import S3Config, S3KmsConfig
from shipper.outputs.stdout import StdoutConfig
from shipper.service import HttpConfig
from shipper.values import Secret

TAIL = "inputs: [{type: tail, path: /a/*.log}]\n"
STDOUT = "outputs: [{type: stdout}]\n"


def with_service(text: str, **environ: str) -> Config:
    return load_text(TAIL + STDOUT + f"service: {text}\n", environ=environ)


def with_outputs(text: str, **environ: str) -> Config:
    return load_text(TAIL + "outputs:\n" + text, environ=environ)


def with_condition(text: str) -> DropConfig:
    config = load_text(TAIL + STDOUT + f"filters:\n- type: drop\n  when: {text}\n", environ={})
    assert isinstance(config.filters[0], DropConfig)
    return config.filters[0]


def test_defaults_are_those_of_the_models() -> None:
    config = load_text(TAIL + STDOUT, environ={})
    tail = config.inputs[0]
    assert (tail.name, tail.path, tail.tag.text) == ("tail", ("/a/*.log",), "kube.{namespace}.{pod}.{container}")
    assert config.service.memory_limit == 64 * 2**20
    assert config.service.http == HttpConfig(listen="127.0.0.1:2020")
    assert config.outputs == (StdoutConfig(match=("*",)),)


def test_values_are_typed() -> None:
    config = with_outputs(
        "- {type: elasticsearch, name: es, match: [a.*, kube.*], hosts: ['http://a:1/', 'https://b'], index: x,\n"
        "   concurrency: 7, batch: {max_bytes: 1.5MiB}, retry: {initial: 250ms}, auth: {username: u, password: p}}\n"
    )
    (output,) = config.outputs
    assert isinstance(output, ElasticsearchConfig)
    assert output.match == ("a.*", "kube.*")
    assert output.hosts == ("http://a:1", "https://b")
    assert (output.concurrency, output.batch.max_bytes, output.retry.initial) == (7, 3 * 2**19, 0.25)
    assert (output.auth.username, output.auth.password) == ("u", Secret("p"))


def test_a_part_of_a_mapping_keeps_the_defaults_of_the_rest() -> None:
    (output,) = with_outputs("- {type: s3, bucket: b, batch: {max_bytes: 1MiB}}\n").outputs
    assert (output.batch.max_bytes, output.batch.max_age) == (2**20, 1.0)


@pytest.mark.parametrize("word", ["off", "false", "'off'", "no"])
def test_off_is_false(word: str) -> None:
    assert with_service(f"{{http: {word}}}").service.http is None


def test_api_takes_a_word_or_a_mapping() -> None:
    text = TAIL + STDOUT + "filters: [{type: kubernetes, api: %s}]\n"
    (off,) = load_text(text % "off", environ={}).filters
    (url,) = load_text(text % "{url: 'http://127.0.0.1:1'}", environ={}).filters
    assert isinstance(off, KubernetesConfig)
    assert isinstance(url, KubernetesConfig)
    assert off.api == "off"
    assert url.api == KubernetesApiConfig(url="http://127.0.0.1:1")


def test_sse_takes_a_word_or_a_mapping() -> None:
    config = with_outputs(
        "- {type: s3, name: a, bucket: b, sse: AES256}\n- {type: s3, name: c, bucket: b, sse: {kms_key_id: k}}\n"
    )
    assert [o.sse for o in config.outputs if isinstance(o, S3Config)] == ["AES256", S3KmsConfig(kms_key_id="k")]


@pytest.mark.parametrize(
    ("written", "names"),
    [("true", ("*",)), ("false", ()), ("a*", ("a*",)), ("[a, b]", ("a", "b")), ("[]", ())],
)
def test_names_are_globs_or_all_or_none(written: str, names: tuple[str, ...]) -> None:
    text = TAIL + STDOUT + f"filters: [{{type: kubernetes, annotations: {written}, labels: {written}}}]\n"
    (kubernetes,) = load_text(text, environ={}).filters
    assert isinstance(kubernetes, KubernetesConfig)
    assert (kubernetes.annotations, kubernetes.labels) == (names, names)


@pytest.mark.parametrize(
    ("written", "listen"),
    [
        ("10.1.2.3:2020", "10.1.2.3:2020"),
        ("fd00::1:2020", "[fd00::1]:2020"),  # ${POD_IP}:2020 on an IPv6 cluster
        ("[::1]:0", "[::1]:0"),
        (":2020", ":2020"),
    ],
)
def test_addresses_of_both_kinds(written: str, listen: str) -> None:
    http = with_service(f"{{http: {{listen: '{written}'}}}}").service.http
    assert http is not None
    assert http.listen == listen


# -- the environment


def test_variables_are_put_in_before_typing() -> None:
    text = "- {type: elasticsearch, hosts: '${ES}', index: a, concurrency: '${N}', data_stream: \"${D:-false}\"}\n"
    (output,) = with_outputs(text, ES="http://es", N="5").outputs
    assert isinstance(output, ElasticsearchConfig)
    assert (output.hosts, output.concurrency, output.data_stream) == (("http://es",), 5, False)


def test_an_empty_variable_takes_the_default_or_leaves_the_key_out() -> None:
    text = "- {type: s3, bucket: '${B:-logs}', region: '${R:-}', endpoint: '${E}'}\n"
    (output,) = with_outputs(text, B="", E="").outputs
    assert isinstance(output, S3Config)
    assert (output.bucket, output.region, output.endpoint) == ("logs", None, None)


def test_what_a_variable_holds_is_never_yaml() -> None:
    text = "- {type: file, path: 'a', name: '${X}'}\n- {type: s3, bucket: '${Y}'}\n"
    file, s3 = with_outputs(text, X="123", Y="{a: 1}").outputs
    assert isinstance(s3, S3Config)
    assert (file.name, s3.bucket) == ("123", "{a: 1}")


def test_doubled_dollar_is_literal() -> None:
    config = with_service("{fields: {a: '$${A} $A ${A}$'}}", A="1")
    assert config.service.fields == {"a": "${A} $A 1$"}


def test_a_numeric_secret_from_a_variable_is_text() -> None:
    text = "- {type: elasticsearch, hosts: 'http://es', index: a, auth: {api_key: '${K}'}}\n"
    (output,) = with_outputs(text, K="007").outputs
    assert isinstance(output, ElasticsearchConfig)
    assert output.auth.api_key == Secret("007")


# -- YAML's traps


def test_plain_scalars_are_not_yaml_1_1() -> None:
    fields = with_service("{fields: {a: no, b: 22:22, c: 1.10, d: 010, e: 2026-11-21, f: ~, g: true}}").service.fields
    assert fields == {"a": "no", "b": "22:22", "c": 1.1, "d": "010", "e": "2026-11-21", "f": None, "g": True}


def test_conditions_compare_what_was_written() -> None:
    drop = with_condition("{label: version, in: [1.10, 7, no, true]}")
    assert drop.when == conditions.Test("label", "version", "in", ("1.10", "7", "no", "true"))


def test_conditions_nest() -> None:
    drop = with_condition("[{namespace: a}, {any: [{pod: b}, {not: {field: x.y, exists: false}}]}]")
    assert isinstance(drop.when, All)
    namespace, either = drop.when.parts
    assert namespace == conditions.Test("namespace", "", "equals", ("a",))
    assert either == AnyOf(
        (conditions.Test("pod", "", "equals", ("b",)), Not(conditions.Test("field", "x.y", "exists", exists=False)))
    )


def test_aliases_are_followed() -> None:
    config = with_outputs(
        "- {type: stdout, retry: &slow {initial: 5s}}\n- {type: file, path: a, retry: *slow}\n",
    )
    assert [output.retry.initial for output in config.outputs] == [5.0, 5.0]


# -- files


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("abc\n", encoding="utf-8")
    text = f"- {{type: elasticsearch, hosts: 'http://es', index: a, auth: {{api_key: {{file: {path}}}}}}}\n"
    (output,) = with_outputs(text).outputs
    assert isinstance(output, ElasticsearchConfig)
    assert output.auth.api_key is not None
    assert (output.auth.api_key.get(), output.auth.api_key.file) == ("abc", str(path))


def test_a_relative_path_of_a_file_output_stays_relative() -> None:
    (output,) = with_outputs("- {type: file, path: 'out/{namespace}.ndjson'}\n").outputs
    assert isinstance(output, FileConfig)
    assert output.path.text == "out/{namespace}.ndjson"


def test_load_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shipper.yaml"
    path.write_text(TAIL + STDOUT, encoding="utf-8")
    assert load(path, {}) == load_text(TAIL + STDOUT, environ={})


def test_state_dir_is_the_users_own_but_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert load_text(TAIL + STDOUT).service.state_dir == "/home/u/state/shipper"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert load_text(TAIL + STDOUT).service.state_dir == "/home/u/.local/state/shipper"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load_text(TAIL + STDOUT).service.state_dir == "/var/lib/shipper"
