"""Wrong configurations, and exactly what a person reads about them. One table: the part, the YAML, the messages."""

# ruff: noqa: E501 - a message stands as it is read

import sys
from pathlib import Path

import pytest

from shipper.config.loader import load, load_text
from shipper.errors import ConfigError

TAIL = "inputs: [{type: tail, path: /var/log/pods/*/*/*.log}]\n"
STDOUT = "outputs: [{type: stdout}]\n"
ELASTICSEARCH = "outputs:\n- type: elasticsearch\n  hosts: http://es:9200\n"
S3 = "outputs:\n- type: s3\n  bucket: logs\n"

CASES = {
    # -- the file as YAML
    "empty file": ("", ["1:1: inputs: is required", "1:1: outputs: is required"]),
    "not a mapping": ("- a\n", ["1:1: takes a mapping, not a list"]),
    "only text": ("\nhello\n", ["2:1: takes a mapping"]),
    "syntax": ("service: {\n", ["2:1: this is no YAML: expected the node content, but found '<stream end>'"]),
    "mapping in a value": ("a: b: c\n", ["1:5: this is no YAML: mapping values are not allowed here"]),
    "tab": (
        "service:\n\tlog_level: info\n",
        ["2:1: this is no YAML: found character '\\t' that cannot start any token; indent with spaces"],
    ),
    "variable in braces without quotes": (
        "service: {log_level: ${LEVEL}}\n",
        ["1:23: this is no YAML: expected ',' or '}', but got '{'; between { and }, put quotes around \"${NAME}\""],
    ),
    "control character": ("a: \x01\n", ["1:4: this is no YAML: the character U+0001 is not allowed"]),
    "impossible escape": (
        'a: "\\UFFFFFFFF"\n',
        ["1:1: this is no YAML: an escape in quotes (\\U...) is no character"],
    ),
    "nested without end": ("[" * 3000, ["1:1: this is no YAML: it is nested too deeply"]),
    "two documents": (
        "a: 1\n---\nb: 2\n",
        ["2:1: this is no YAML: but found another document"],
    ),
    "YAML tag": (
        TAIL + "outputs: [{type: !ruby stdout}]\n",
        ["2:18: outputs[0].type: has the YAML tag !ruby, which means nothing here"],
    ),
    "key that is no text": (
        TAIL + STDOUT + "service: {[a]: 1}\n",
        ["3:11: service: a key must be plain text"],
    ),
    "the same key twice": (
        TAIL + STDOUT + "service:\n  log_level: info\n  log_level: debug\n",
        ["5:3: service.log_level: is given twice; the first is in line 4"],
    ),
    # -- keys
    "near misses": (
        "service:\n  drain_timeot: 5s\n" + TAIL + "outputs:\n- type: stdout\n  mach: a\nfilter: []\n",
        [
            "2:3: service.drain_timeot: unknown key; did you mean drain_timeout?",
            "6:3: outputs[0].mach: unknown key; did you mean match?",
            "7:1: filter: unknown key; did you mean filters?",
        ],
    ),
    "a key like nothing": (
        TAIL + STDOUT + "service: {http: {qqq: 1}}\n",
        ["3:18: service.http.qqq: unknown key; there are listen, token"],
    ),
    "required keys": (
        "inputs:\n- type: tail\noutputs:\n- type: elasticsearch\n- type: s3\n- type: file\n",
        [
            "2:3: inputs[0].path: is required",
            "4:3: outputs[0].hosts: is required, or cloud_id in its place",
            "4:3: outputs[0].index: is required",
            "5:3: outputs[1].bucket: is required",
            "6:3: outputs[2].path: is required",
        ],
    ),
    "empty lists": (
        "inputs: []\noutputs:\n- type: elasticsearch\n  index: a\n  hosts: []\n",
        ["1:9: inputs: is empty", "5:10: outputs[0].hosts: is required, or cloud_id in its place"],
    ),
    "types": (
        "inputs:\n- path: a\n- type: tial\n- type: kafka\n" + STDOUT,
        [
            "2:3: inputs[0].type: is required; there are tail",
            '3:9: inputs[1].type: there is no input "tial"; did you mean tail?',
            '4:9: inputs[2].type: there is no input "kafka"; there are tail',
        ],
    ),
    # -- scalars
    "bare numbers": (
        TAIL + STDOUT + "service:\n  memory_limit: 67108864\n  drain_timeout: 20\n",
        [
            '4:17: service.memory_limit: "67108864" is no size: write a number and a unit, as 64KiB, 5MiB, 10MB or 1GiB; did you mean "67108864B"?',
            '5:18: service.drain_timeout: "20" is no duration: write a number and a unit, as 250ms, 5s, 10m, 1h or 7d; did you mean "20s"?',
        ],
    ),
    "too small, too large": (
        "inputs: [{type: tail, path: /a, rescan: 0s, max_record_bytes: 0B}]\n"
        + STDOUT
        + "service: {history: 9999d, hold_deleted: 2000TiB}\n",
        [
            '1:41: inputs[0].rescan: must be more than "0s"',
            '1:63: inputs[0].max_record_bytes: must be more than "0B"',
            '3:20: service.history: "9999d" is longer than ten years',
            '3:41: service.hold_deleted: "2000TiB" is more than 1024TiB',
        ],
    ),
    "wrong types": (
        TAIL
        + "filters:\n- type: json\n  keep_message: 1\n"
        + ELASTICSEARCH
        + "  index: 12\n  data_stream: {}\n  concurrency: many\n  compression: zstd\n  retry: 5s\n  tls: [a]\n",
        [
            "4:17: filters[0].keep_message: takes true or false, not 1",
            '8:10: outputs[0].index: takes a string: write it in quotes, "12"',
            "9:16: outputs[0].data_stream: takes true or false, not a mapping",
            '10:16: outputs[0].concurrency: takes a whole number, not "many"',
            '11:16: outputs[0].compression: takes gzip or none, not "zstd"',
            "12:10: outputs[0].retry: takes a mapping",
            "13:8: outputs[0].tls: takes a mapping, not a list",
        ],
    ),
    "a list that is none": (
        TAIL + "filters: {type: json}\noutputs: stdout\n",
        [
            "2:10: filters: takes a list: begin each entry with -, not a mapping",
            "3:10: outputs: takes a list: begin each entry with -",
        ],
    ),
    "a list entry that is empty": (
        "inputs:\n- type: tail\n  path:\n  - /a\n  -\n" + STDOUT,
        ["5:4: inputs[0].path[1]: is empty"],
    ),
    # -- environment
    "environment": (
        "service: {state_dir: '${STATE}'}\n" + TAIL + "outputs:\n- type: stdout\n  match: ${a b}\n",
        [
            "1:22: service.state_dir: the environment variable STATE is not set; set it, or write ${STATE:-default}",
            "5:10: outputs[0].match: holds a ${ that is no ${NAME} or ${NAME:-default}; write $${ for the characters themselves",
        ],
    ),
    "typed after substitution": (
        TAIL + ELASTICSEARCH + "  index: a\n  concurrency: ${N:-0}\n",
        ["6:16: outputs[0].concurrency: takes a whole number of at least 1, not 0"],
    ),
    # -- service
    "service": (
        "service:\n  http: {listen: '2020'}\n  log_level: loud\n  fields: {kubernetes.x: 1, a: !x 1}\n" + TAIL + STDOUT,
        [
            '2:18: service.http.listen: "2020" is no address to listen on: write host:port, as 127.0.0.1:2020',
            '3:14: service.log_level: takes debug, info, warning or error, not "loud"',
            "4:26: service.fields.kubernetes.x: is a field that shipper writes itself; choose another name",
            "4:32: service.fields.a: has the YAML tag !x, which means nothing here",
        ],
    ),
    "fields of ours": (
        "service: {fields: {kubernetes.x: 1}, http: 2020}\n" + TAIL + STDOUT,
        [
            "1:34: service.fields.kubernetes.x: is a field that shipper writes itself; choose another name",
            "1:44: service.http: takes a mapping, or off",
        ],
    ),
    "addresses": (
        "service: {http: {listen: 'a b:80'}}\n" + TAIL + STDOUT,
        ['1:26: service.http.listen: "a b:80": a b is no host'],
    ),
    "memory": (
        "service:\n  memory_limit: 16MiB\n" + TAIL + "outputs:\n- type: stdout\n- {type: file, path: a}\n",
        [
            (
                "2:17: service.memory_limit: 16MiB is less than two batches and two records for each output; "
                "set it to 24MiB or more, or make batch.max_bytes or max_record_bytes smaller"
            )
        ],
    ),
    # -- inputs
    "tail": (
        "inputs:\n- type: tail\n  path: ['', '/var/**.log', '/a/[b', '/a/{b,c}']\n  tag: kube.{namespce}.{id}\n"
        "  format: xml\n" + STDOUT,
        [
            "3:10: inputs[0].path[0]: a glob cannot be empty",
            '3:14: inputs[0].path[1]: "/var/**.log": ** stands alone between slashes, as in /var/log/**/*.log',
            '3:29: inputs[0].path[2]: "/a/[b" has a [ without its ]',
            '3:38: inputs[0].path[3]: "/a/{b,c}": globs know *, ?, [...] and **; write a list instead of {a,b}',
            "4:8: inputs[0].tag: there is no placeholder {namespce} here; there are {namespace}, {pod}, {container}, {path}, {dir}, {file}, {stem}, {node}",
            '5:11: inputs[0].format: takes auto, cri, docker, json or text, not "xml"',
        ],
    ),
    "names": (
        "inputs:\n- {type: tail, path: /a, name: ../x}\noutputs:\n- type: stdout\n- {type: stdout, match: a}\n",
        [
            '2:32: inputs[0].name: "../x" is no name: letters, digits, . _ and -, at most 63, a letter or digit first',
            "5:3: outputs[1].name: outputs[0] is called stdout already; give one of them another name",
        ],
    ),
    # -- filters
    "kubernetes": (
        TAIL
        + "filters:\n- {type: kubernetes, api: on}\n- {type: kubernetes, name: b, api: {url: 10.0.0.1}}\n"
        + "- {type: kubernetes, name: c, api: {context: x}, annotations: [''], wait: 2}\n"
        + STDOUT,
        [
            '3:27: filters[0].api: takes auto, off or a mapping, not "on"',
            '4:42: filters[1].api.url: "10.0.0.1" is no URL: write http:// or https://, host and port, as https://host:9200',
            "5:36: filters[2].api: takes one of url and kubeconfig",
            "5:46: filters[2].api.context: belongs to a kubeconfig",
            "5:64: filters[2].annotations[0]: a glob cannot be empty",
            '5:75: filters[2].wait: "2" is no duration: write a number and a unit, as 250ms, 5s, 10m, 1h or 7d; did you mean "2s"?',
        ],
    ),
    "tag rules": (
        TAIL
        + "filters:\n- type: tag\n  rules:\n  - {when: {label: app}, add: a}\n  - {add: a, set: b}\n"
        + "  - {add: 'a.{field:x}'}\n  - {add: '{label}'}\n"
        + STDOUT,
        [
            "5:12: filters[0].rules[0].when: says nothing about the label; add one of equals, in, matches, exists",
            "6:5: filters[0].rules[1]: a rule takes one of add and set",
            "7:11: filters[0].rules[2].add: there is no placeholder {field:x} here; there are {namespace}, {pod}, {container}, {node}, {path}, {dir}, {file}, {stem}, {label:...}, {annotation:...}",
            "8:11: filters[0].rules[3].add: {label} should read {label:...}",
        ],
    ),
    "conditions": (
        TAIL
        + "filters:\n- type: drop\n  when:\n  - any:\n    - {namespce: a}\n    - {pod: , matches: 'a['}\n"
        + "- {type: drop, name: b, when: kube-system}\n- {type: drop, name: c}\n"
        + "- {type: drop, name: d, when: {label: a, exists: 'yes'}}\n"
        + STDOUT,
        [
            "6:18: filters[0].when[0].any[0].namespce: no such subject or test; subjects are label, annotation, field, namespace, pod, container, stream, tag, path, message; tests are equals, in, matches, exists",
            "7:24: filters[0].when[0].any[1].matches: is no regular expression: unterminated character set at position 1",
            "8:31: filters[1].when: takes a condition such as {namespace: kube-system}, or a list of them",
            "9:3: filters[2].when: is required",
            "10:50: filters[3].when.exists: takes true or false",
        ],
    ),
    "a regular expression": (
        TAIL + "filters: [{type: drop, when: {pod: , matches: 'a['}}]\n" + STDOUT,
        ["2:47: filters[0].when.matches: is no regular expression: unterminated character set at position 1"],
    ),
    # -- outputs
    "an output that nothing can match": (
        TAIL
        + "filters: [{type: tag, rules: [{add: 'archive.{pod}'}]}]\n"
        + "outputs:\n- type: stdout\n  match: [archived.*, kub.*]\n- {type: file, path: a, match: archive.x}\n",
        [
            (
                "5:10: outputs[0].match: no tag can match archived.*, kub.*; "
                "there are kube.{namespace}.{pod}.{container}, archive.{pod}"
            )
        ],
    ),
    "patterns": (
        TAIL + "outputs:\n- {type: stdout, match: 'kube.{namespace}'}\n- {type: file, path: a, match: ['']}\n",
        [
            '3:25: outputs[0].match: "kube.{namespace}": placeholders belong to tags; in a pattern, * is any text',
            '4:33: outputs[1].match[0]: a tag pattern cannot be empty; "*" is any tag',
        ],
    ),
    "elasticsearch": (
        TAIL
        + "outputs:\n- type: elasticsearch\n  hosts: [es:9200, 'http://elastic:hunter2@es:9200', 'http://es:9200?a']\n"
        + "  index: 'Logs-{id}'\n  auth: {api_key: a, username: b}\n  tls: {key_file: /nowhere/key, verify: maybe}\n"
        + "- type: elasticsearch\n  name: b\n  hosts: http://es:9200\n  index: '_Logs-{time:%Y}'\n"
        + "  retry: {initial: 1m}\n  timeout: 0s\n",
        [
            '4:11: outputs[0].hosts[0]: "es:9200" is no URL: write http:// or https://, host and port, as https://host:9200',
            "4:20: outputs[0].hosts[1]: a URL carries no user and password here; there are keys for them",
            '4:54: outputs[0].hosts[2]: "http://es:9200?a" has a ? or # part, which does not belong here',
            "5:10: outputs[0].index: there is no placeholder {id} here; there are {namespace}, {pod}, {container}, {tag}, {node}, {path}, {dir}, {file}, {stem}, {label:...}, {annotation:...}, {field:...}, {time:...}",
            "6:9: outputs[0].auth: username and password go together",
            "6:9: outputs[0].auth: takes one of api_key, bearer, aws, and username with password",
            "7:19: outputs[0].tls.key_file: there is no file /nowhere/key",
            "7:19: outputs[0].tls.key_file: is the key of a cert_file, which is missing",
            '7:41: outputs[0].tls.verify: takes true or false, not "maybe"',
            "11:10: outputs[1].index: an index name cannot hold 'L'",
            "11:10: outputs[1].index: an index name cannot begin with -, _ or +",
            "11:10: outputs[1].index: a data stream rolls over by itself: leave {time:...} out, or set data_stream: false",
            "12:10: outputs[1].retry.max: must not be less than initial",
            '13:12: outputs[1].timeout: must be more than "0s"',
        ],
    ),
    "elasticsearch's ways there": (
        TAIL
        + ELASTICSEARCH
        + "  index: a\n  cloud_id: abc\n  tls: {fingerprint: xy, verify: false}\n  proxy: {url: http://p, username: u}\n"
        + "- {type: elasticsearch, name: b, hosts: [http://a, http://b], index: b, auth: {aws: {region: x}}}\n"
        + "- {type: elasticsearch, name: c, hosts: http://c, index: c, retention: {cold: 2d, delete: 1d}}\n",
        [
            "6:13: outputs[0].cloud_id: stands in place of hosts; take one of them out",
            "6:13: outputs[0].cloud_id: is none: it reads name:base64, as Elastic Cloud shows it",
            "7:22: outputs[0].tls.fingerprint: is no SHA-256 in hex: 64 digits, colons between them or not",
            "7:22: outputs[0].tls.fingerprint: stands for itself: without ca_file, cert_file and verify: false",
            "8:10: outputs[0].proxy: username and password go together",
            "9:85: outputs[1].auth.aws: signs for one host",
            "10:91: outputs[2].retention.delete: must not be less than cold",
        ],
    ),
    "secrets": (
        TAIL
        + ELASTICSEARCH
        + "  index: a\n  auth: {api_key: {file: /nowhere/secret}}\n"
        + "- {type: elasticsearch, name: b, hosts: http://es, index: b, auth: {bearer: 12345}}\n"
        + "- {type: elasticsearch, name: c, hosts: http://es, index: c, auth: {bearer: {path: /a}}}\n",
        [
            "6:26: outputs[0].auth.api_key.file: /nowhere/secret cannot be read: No such file or directory",
            "7:77: outputs[1].auth.bearer: takes a string: write it in quotes",
            "8:77: outputs[2].auth.bearer: takes a string, or {file: /path} to read it from a file",
        ],
    ),
    "s3": (
        TAIL
        + S3
        + "  key: logs/{id}.ndjson\n  auth: {access_key: a}\n  sse: AES128\n  spool_limit: 1MiB\n"
        + "- {type: s3, name: b, bucket: b, key: 'logs/{pod}.gz'}\n"
        + "- {type: s3, name: c, bucket: b, compression: zstd}\n"
        + "- {type: s3, name: d, bucket: b, compression: none, auth: {}, sse: {}, key: '/{id}.zst'}\n",
        [
            "5:8: outputs[0].key: must end in .gz, since compression is gzip",
            "6:9: outputs[0].auth: access_key and secret_key go together",
            '7:8: outputs[0].sse: takes AES256 or a mapping, not "AES128"',
            "8:16: outputs[0].spool_limit: must hold at least one object: object.max_bytes is larger",
            "9:39: outputs[1].key: must hold {id}",
            "10:3: outputs[2].key: ends in .gz, but compression is zstd: end it in .zst",
            "11:59: outputs[3].auth: takes one of access_key with secret_key, profile, and role_arn; or write auth: auto",
            "11:68: outputs[3].sse.kms_key_id: is required",
            "11:77: outputs[3].key: ends in .zst, but compression is none: leave .zst out",
            "11:77: outputs[3].key: a key does not begin with /",
        ],
    ),
    "s3 as a table": (
        TAIL
        + S3
        + "  format: parquet\n"
        + "- {type: s3, name: b, bucket: b, compression: zstd, key: 'logs/{id}.parquet'}\n"
        + "- {type: s3, name: c, bucket: b, compression: none, key: 'logs/{id}.parquet'}\n"
        + "- {type: s3, name: d, bucket: b, format: parquet, compression: none, key: 'logs/{id}.parquet'}\n",
        [
            "3:3: outputs[0].key: must end in .parquet, since format is parquet",
            "6:58: outputs[1].key: ends in .parquet, but format is ndjson: say format: parquet",
            "7:58: outputs[2].key: ends in .parquet, but format is ndjson: say format: parquet",
        ],
    ),
    "file": (
        TAIL
        + "outputs:\n- {type: file, path: 'a/{pod', rotate: {keep: 0}}\n- {type: file, name: b, path: x}\n"
        + "- {type: file, name: c, path: x}\n",
        [
            '3:22: outputs[0].path: "a/{pod" has a brace without its partner',
            "3:40: outputs[0].rotate.max_bytes: is required",
            "3:47: outputs[0].rotate.keep: takes a whole number of at least 1, not 0",
            "5:31: outputs[2].path: outputs[1] writes there already; two outputs need two paths",
        ],
    ),
}


@pytest.mark.parametrize("part", CASES)
def test_a_wrong_configuration_reads(part: str) -> None:
    text, expected = CASES[part]
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="shipper.yaml", environ={})
    assert str(caught.value).splitlines() == [f"shipper.yaml:{line}" for line in expected]


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:1:1: cannot be read: No such file or directory"


def test_a_file_that_is_not_utf8_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "latin1.yaml"
    path.write_bytes(b"a: \xe4\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:1:1: is not UTF-8: byte 3 cannot be decoded"


def test_no_message_holds_a_secret(tmp_path: Path) -> None:
    text = (
        TAIL
        + ELASTICSEARCH
        + "  index: a\n  auth: {api_key: hunter2, username: hunter2x, bearer: 'hunter2\\n', password: \"hunter2\\n\"}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_text(text + "  hots: ['http://u:hunter2@es']\n", environ={})
    assert len(caught.value.problems) >= 3
    assert "hunter2" not in str(caught.value)


def test_parquet_without_its_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError) as caught:
        load_text(TAIL + S3 + "  key: logs/{id}.parquet\n  format: parquet\n")
    (problem,) = caught.value.problems
    assert problem.path == "outputs[0].format"
    assert problem.sentence.endswith("not installed here: pip install 'shipper[parquet]'")
