"""How the daemon ends, and what keeps it from beginning."""

import re
from pathlib import Path

from benchmarks.world.elasticsearch_fake import FakeElasticsearch
from benchmarks.world.generator import write_tree
from benchmarks.world.s3_proxy import S3Proxy
from tests.e2e.configs import tail, to_elasticsearch, to_files, to_s3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.judge import archived, judge, stored
from tests.e2e.lines import Container
from tests.fakes.archive import Archive

DRAIN_S = 2.0  # destinations stay away for longer than any test waits


async def test_sigterm_ends_it_in_time_with_everything_down_and_nothing_is_lost_by_it(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    account = write_tree(tmp_path, total_bytes=4 * 2**20, pods=6, seed=5)
    proxy, port = S3Proxy(archive.endpoint), elasticsearch.port
    await proxy.start()
    await proxy.stop()
    await elasticsearch.stop()
    daemon = make_daemon(
        {
            "service": {"drain_timeout": f"{DRAIN_S:g}s"},
            "inputs": [tail(tmp_path / "pods")],
            "filters": [{"type": "json"}],
            "outputs": [to_elasticsearch(elasticsearch.url), to_s3(archive, endpoint=proxy.url)],
        }
    )
    await daemon.start()
    for name in ("es", "archive"):
        await daemon.until_metric("shipper_output_retries_total", 1, name=name)
    assert await daemon.stop() == 0, daemon.log()
    await daemon.audit()
    await elasticsearch.start(port)
    await proxy.start()
    await daemon.start()
    await daemon.caught_up("es", "archive", seen_bytes=account.bytes)
    assert await daemon.stop() == 0
    await proxy.stop()
    for documents, by_time in ((stored(elasticsearch), True), (archived(archive), False)):
        verdict = judge(account, documents, by_time=by_time, labels=False)
        assert verdict.ok, verdict
    await daemon.settled()


async def test_sigterm_delivers_what_is_in_flight_and_uploads_open_objects(
    tmp_path: Path, make_daemon: MakeDaemon, elasticsearch: FakeElasticsearch, archive: Archive
) -> None:
    cart = Container(tmp_path / "pods")
    cart.write("one")
    late = {"batch": {"max_age": "1h"}}
    daemon = make_daemon(
        {
            "inputs": [tail(tmp_path / "pods")],
            "outputs": [
                to_elasticsearch(elasticsearch.url, **late),
                to_s3(archive, object={"max_bytes": "64MiB", "max_age": "1h"}),
            ],
        }
    )
    await daemon.start()
    written = elasticsearch.store.writes
    await daemon.until(lambda: len(written) == 1)
    cart.write("two")  # now that a request has left just now, this one waits for more
    await daemon.until_metric("shipper_input_records_total", 2)
    await daemon.until_metric("shipper_spool_bytes", 1)
    assert len(written) == 1
    assert await daemon.stop() == 0, daemon.log()
    assert [d["message"] for d in elasticsearch.documents()] == ["one", "two"]
    assert len(archive.keys()) == 1
    assert len(archive.documents()) == 2
    await daemon.settled()


async def test_a_second_process_on_the_same_state_is_refused(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    Container(tmp_path / "pods").write("one")
    config = {"inputs": [tail(tmp_path / "pods")], "outputs": [to_files(tmp_path / "out")]}
    daemon = make_daemon(config)
    await daemon.start()
    await daemon.ready()
    second = await daemon.command("run", "CONFIG")
    assert second.code == 1
    assert f"another shipper (process {daemon.process.pid}) works on {daemon.state_dir}" in second.err
    assert await daemon.stop() == 0
    await daemon.settled()


async def test_all_that_is_wrong_in_a_configuration_is_said_in_one_run(daemon_of_files: Daemon) -> None:
    text = daemon_of_files.config.read_text(encoding="utf-8")
    text = text.replace("type: tail", "type: tial").replace("max_age: 100ms", "max_age: 100")
    daemon_of_files.config.write_text(text + "outptus: []\n", encoding="utf-8")
    result = await daemon_of_files.command("run", "CONFIG")
    assert result.code == 2
    *problems, summary = result.err.splitlines()
    assert summary == "shipper: 3 problems in the configuration"
    assert [problem.split(";")[-1] for problem in problems] == [
        " did you mean tail?",
        ' did you mean "100s"?',
        " did you mean outputs?",
    ]
    assert all(re.match(rf"{daemon_of_files.config}:\d+:\d+: ", problem) for problem in problems)
    assert not daemon_of_files.state_dir.exists()
