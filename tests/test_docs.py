"""What README and docs print is true: YAML loads, links lead somewhere, commands and tests exist, roles are tested."""

import argparse
import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from shipper import cli
from shipper.config.loader import load_text
from shipper.document import make_envelope
from shipper.encode import encode
from shipper.frame import Frame, Target
from shipper.outputs.elasticsearch.check import PRIVILEGES, TO_ASK
from shipper.outputs.s3.manifest import Entry
from shipper.record import Source
from tests.servers.elasticsearch import ROLES
from tests.servers.opensearch import SHIPPER_ROLE

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ENVIRONMENT = {"ELASTICSEARCH_API_KEY": "a=="}

INPUT = "inputs:\n  - {type: tail, path: /var/log/pods/*/*/*.log}\n"
OUTPUT = "outputs:\n  - {type: stdout}\n"

# boto3's methods, by the module that calls them -> https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
S3_ACTIONS = {
    "api": {
        "put_object": "s3:PutObject",
        "create_multipart_upload": "s3:PutObject",
        "upload_part": "s3:PutObject",
        "complete_multipart_upload": "s3:PutObject",
        "abort_multipart_upload": "s3:AbortMultipartUpload",
        "delete_object": "",  # only the probe of `check --online`, which does without
    },
    "download": {
        "list_objects_v2": "s3:ListBucket",
        "get_object": "s3:GetObject",
        "head_object": "s3:GetObject",
    },
    "setup": {
        "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
        "put_bucket_lifecycle_configuration": "s3:PutLifecycleConfiguration",
    },
}
POLICIES = {"api": "s3-policy.json", "download": "s3-audit-policy.json", "setup": "s3-setup-policy.json"}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    mark: str  # the second word behind ```: what this is a fragment of
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(\w+) ?(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            indent, language, mark, body = match.groups()
            lines = [line.removeprefix(indent) for line in body.splitlines(keepends=True)]
            number = text.count("\n", 0, match.start()) + 1
            found.append(Block(page.relative_to(ROOT).as_posix(), number, language, mark, "".join(lines)))
    return [block for block in found if block.language in languages]


def json_blocks(page: str) -> list[Any]:
    return [json.loads(block.text) for block in blocks("json") if block.page == page]


# -- YAML -------------------------------------------------------------------------------------------------------------


def configurations(text: str) -> Iterator[str]:
    """What is printed, completed by the parts that every configuration needs."""
    if text.startswith("when:"):  # one condition a line
        for line in text.splitlines():
            yield f"{INPUT}filters:\n  - type: drop\n    {line}\n{OUTPUT}"
        return
    printed = set(yaml.safe_load(text))
    yield text + INPUT * ("inputs" not in printed) + OUTPUT * ("outputs" not in printed)


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if not b.mark], ids=str)
def test_each_yaml_block_is_taken_by_the_loader(block: Block, tmp_path: Path) -> None:
    for text in configurations(block.text):
        for name in re.findall(r"/etc/([\w/.-]+)", text):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        load_text(text.replace("/etc/", f"{tmp_path}/"), file=str(block), environ=ENVIRONMENT)


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.mark], ids=str)
def test_a_fragment_of_something_else_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


# -- links and paths --------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`([\w.]+/[\w./]+)`", page.read_text(encoding="utf-8")):
        if name.partition("/")[0] in ("shipper", "config", "deploy", "docs", "benchmarks", "tests") or name.endswith(
            ".py"
        ):
            assert (ROOT / name).exists() or (ROOT / "shipper" / name).exists(), f"{page.name}: {name}"


# -- commands ---------------------------------------------------------------------------------------------------------


def command_lines() -> list[tuple[str, str]]:
    """(where, arguments) of each call of shipper in a shell block, the programs that lead to it taken off."""
    found = []
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|-- |/bin/)shipper (.+)$", line)
            if match:
                found.append((str(block), match[1]))
    return found


@pytest.mark.parametrize(("where", "arguments"), command_lines())
def test_every_command_in_a_shell_block_is_understood(where: str, arguments: str) -> None:
    cli._parser().parse_args(shlex.split(arguments, comments=True))


def subcommand(words: list[str]) -> argparse.ArgumentParser:
    """The parser that these words lead to. Fails when there is no such command."""
    parser = cli._parser()
    for word in words:
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})
        assert word in choices, f"shipper {' '.join(words)}"
        parser = choices[word]
    return parser


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    for call in re.findall(r"`shipper ([^`]+)`", page.read_text(encoding="utf-8")):
        words = re.findall(r"[\w./-]+", call)
        commands = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        parser = subcommand(commands)
        for option in (word for word in words if word.startswith("--")):
            assert option in parser._option_string_actions, f"{page.name}: shipper {call}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    text, makefile = page.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


# -- promises ---------------------------------------------------------------------------------------------------------


def names(path: Path) -> set[str]:
    """Of a module's tests: functions, also those of classes, and the test cases that state machines are made into."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assigned = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return assigned | {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def guarantees() -> list[list[str]]:
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is guaranteed")[2].partition("\n## ")[0]
    )
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_each_guarantee_names_tests_that_exist() -> None:
    rows = guarantees()
    assert len(rows) >= 8
    for promise, _, tests in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, promise
        for path, name in named:
            assert name.lower().startswith("test"), promise
            assert name in names(ROOT / "tests" / path), f"{promise}: {path}::{name}"


def test_the_document_in_the_readme_is_what_is_sent() -> None:
    (document,) = json_blocks("README.md")
    members = document["kubernetes"]
    source = Source(
        "pods",
        "/var/log/pods/x/app/0.log",
        members["namespace_name"],
        members["pod_name"],
        members["pod_id"],
        members["container_name"],
        0,
    )
    from_api = {key: members[key] for key in ("host", "container_image", "labels", "owner")}
    envelope = make_envelope(source, base="", frame=(None, b"{"), document=from_api, static={})
    into = bytearray()
    encode(b"2026-11-21T10:00:00.123456789Z stdout F plain text\n", 0, Frame("cri"), [Target(envelope, into)])
    assert json.dumps(json.loads(into)) == json.dumps(document)


# -- the least rights -------------------------------------------------------------------------------------------------


def test_the_elasticsearch_role_is_the_one_that_real_servers_are_tested_with() -> None:
    role = json_blocks("docs/elasticsearch.md")[0]["role_descriptors"]["shipper"]
    tested: Any = ROLES["shipper"]
    assert role["cluster"] == tested["cluster"]
    (granted,) = role["indices"]
    assert sorted(granted["privileges"]) == sorted(PRIVILEGES + TO_ASK) == sorted(tested["indices"][0]["privileges"])


def test_the_opensearch_role_is_the_one_that_real_servers_are_tested_with() -> None:
    assert json_blocks("docs/elasticsearch.md")[1] == SHIPPER_ROLE


def policy(name: str) -> Any:
    return json.loads((ROOT / "deploy" / name).read_text())


def allowed(name: str) -> set[str]:
    return {action for statement in policy(name)["Statement"] for action in statement["Action"]}


@pytest.mark.parametrize("module", S3_ACTIONS)
def test_an_iam_policy_allows_what_is_called_and_no_more(module: str) -> None:
    called = set(re.findall(r"client\.(\w+)\(", (ROOT / f"shipper/outputs/s3/{module}.py").read_text()))
    needed = {S3_ACTIONS[module][method] for method in called} - {""}
    optional = {"s3:PutObjectTagging"} if module == "api" else set()
    assert {action for action in allowed(POLICIES[module]) if action.startswith("s3:")} == needed | optional


def test_policies_are_for_what_the_production_example_writes() -> None:
    (example,) = [
        block for block in blocks("yaml") if block.page == "docs/s3.md" and "lifecycle: {glacier" in block.text
    ]
    (output,) = yaml.safe_load(example.text)["outputs"]
    arn = f"arn:aws:s3:::{output['bucket']}"
    written = {f"{arn}/{output['key'].partition('{')[0]}*", f"{arn}/manifest/*"}
    assert set(policy("s3-policy.json")["Statement"][0]["Resource"]) == written
    assert set(policy("s3-audit-policy.json")["Statement"][1]["Resource"]) == written
    assert policy("s3-setup-policy.json")["Statement"][0]["Resource"] == arn


def test_the_bucket_policy_leaves_the_shipper_what_it_needs() -> None:
    statements = {statement["Sid"]: statement for statement in policy("s3-bucket-policy.json")["Statement"]}
    assert all(statement["Effect"] == "Deny" for statement in statements.values())
    rights = {action for action in allowed("s3-policy.json") if action.startswith("s3:")}
    assert set(statements["ShipperOnlyAdds"]["NotAction"]) == rights
    assert statements["NoObjectIsWrittenOver"]["Resource"] in policy("s3-policy.json")["Statement"][0]["Resource"]


def test_the_policies_that_are_deployed_are_those_in_the_docs() -> None:
    printed = [block for block in json_blocks("docs/s3.md") if "Statement" in block]
    names = ("s3-policy.json", "s3-audit-policy.json", "s3-setup-policy.json", "s3-bucket-policy.json")
    assert printed == [policy(name) for name in names]


def test_the_line_of_a_manifest_that_is_printed_is_one() -> None:
    (line,) = [block for block in json_blocks("docs/s3.md") if "sha256" in block]
    assert json.loads(msgspec.json.encode(msgspec.convert(line, Entry))) == line
