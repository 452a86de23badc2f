"""The bench measures what it says, and takes a run that lost something for no result."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.backlog import Bench, Delivered, ensure_data
from benchmarks.kubernetes import serve_pods
from benchmarks.live import Live, LiveBench, Load
from benchmarks.measure import Cost, measure
from benchmarks.peers import PEERS, Peer, make_peer
from benchmarks.results import Report, Row, Run, show_rows, show_runs
from benchmarks.scenarios import BACKLOGS, Backlog, Growth, LiveScenario, Size
from benchmarks.subjects import Job, Mode, Shipper, Variant, Yardstick, is_archived
from benchmarks.world.account import Account
from benchmarks.world.copies import copies_of
from shipper.config.loader import load


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Account]:
    return ensure_data(tmp_path_factory.mktemp("bench"), mib=1, pods=5, seed=1)


class Command:
    """A subject that runs a line of Python."""

    name = "command"
    mode: Mode = "plain"
    has_archive = is_packed = False
    newlines = 2
    environment: Mapping[str, str] = {}

    def __init__(self, code: str, *, ends: bool = True) -> None:
        self._code, self.ends = code, ends

    def documents(self, account: Account) -> int:
        return account.records

    def command(self, job: Job) -> list[str]:
        return [sys.executable, "-c", self._code, str(job.pods), str(job.port)]


async def test_yardstick_delivers_every_record_in_both_modes(data: tuple[Path, Account]) -> None:
    folder, account = data
    bench = Bench(folder, account, limit_s=200)
    plain, packed = [await bench.measure(Yardstick(mode), 1, None) for mode in get_args(Mode)]
    assert (plain.fault, packed.fault) == ("", "")
    assert plain.documents == packed.documents == account.records
    assert plain.cost.cpu_s > 0


@pytest.mark.parametrize(
    ("code", "limit_s", "fault"),
    [
        ("print('the last words'); raise SystemExit(3)", 200, "exit code 3\nthe last words"),
        ("import time; time.sleep(60)", 0.2, "not done after 0.2 s"),
        ("pass", 200, "0 documents of 0 bytes, not"),
    ],
)
async def test_a_run_that_fails_hangs_or_loses_is_no_result(
    data: tuple[Path, Account], code: str, limit_s: float, fault: str
) -> None:
    run = await Bench(*data, limit_s=limit_s).measure(Command(code), 1, None)
    assert run.fault.startswith(fault)


async def test_a_run_whose_bytes_differ_from_the_checked_one_is_no_result(data: tuple[Path, Account]) -> None:
    folder, account = data
    run = await Bench(folder, account, limit_s=200).measure(Yardstick(), 1, Delivered(account.records, 7))
    assert "bytes, not" in run.fault


async def test_every_document_of_the_unmeasured_run_is_checked(data: tuple[Path, Account]) -> None:
    verdict, arrived = await Bench(*data, limit_s=200).check(Yardstick(), labels=True)
    assert arrived is None, "the yardstick writes labels of its own"
    assert f"{data[1].records:,} wrong metadata" in verdict


@pytest.mark.parametrize("scenario", BACKLOGS, ids=lambda scenario: scenario.name)
async def test_shipper_delivers_every_record_with_its_labels(data: tuple[Path, Account], scenario: Backlog) -> None:
    folder, account = data
    async with serve_pods(account, wanted=True) as api:
        subject = Shipper(api, mode=scenario.mode, variant=scenario.variant)
        verdict, arrived = await Bench(folder, account, limit_s=200).check(subject, labels=True)
    assert arrived is not None, verdict
    assert arrived.documents == account.records


async def test_an_archive_that_lacks_records_is_no_result(
    data: tuple[Path, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.backlog.is_archived", lambda _: True)  # more than the rule archives
    folder, account = data
    async with serve_pods(account, wanted=True) as api:
        verdict, arrived = await Bench(folder, account, limit_s=200).check(Shipper(api, variant="archive"), labels=True)
    assert arrived is None
    assert "missing" in verdict


async def test_a_peer_that_goes_on_for_ever_is_stopped_when_all_has_arrived(data: tuple[Path, Account]) -> None:
    code = "import subprocess, sys, time; from benchmarks import reference\n"
    code += "subprocess.run([sys.executable, '-m', 'benchmarks.reference', *sys.argv[1:], 'none']); time.sleep(600)"
    run = await Bench(*data, limit_s=200).measure(Command(code, ends=False), 1, None)
    assert run.fault == ""
    assert 0 < run.cost.wall_s < 600


async def test_every_document_of_a_live_run_is_checked_and_has_its_latency() -> None:
    result = await LiveBench(settle_s=0.5).run(Load(files=5, rate=200, seconds=1.5))
    assert result.fault == ""
    assert " 0 lost" in result.checked
    assert 0 < result.p50_ms <= result.p99_ms <= result.most_ms
    assert result.cpu_share > 0
    assert result.requests_s > 0
    assert result.first_s > 0


TINY_PEER = """
import glob, sys, time, urllib.request
read = {}
while True:
    for path in glob.glob(sys.argv[1] + "/*/*/0.log"):
        with open(path, "rb") as file:
            file.seek(read.get(path, 0))
            lines = file.read().rpartition(b"\\n")[0]
        if lines:
            read[path] = read.get(path, 0) + len(lines) + 1
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/_bulk", lines + b"\\n").read()
    time.sleep(0.05)
"""


async def test_a_peer_under_a_live_load_is_held_to_the_number_of_its_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("-c", TINY_PEER, "@PODS@", "@PORT@")
    monkeypatch.setitem(PEERS, "tiny", Peer(sys.executable, "vlagent.yaml", arguments, joins=False, newlines=1))
    monkeypatch.setitem(PEERS, "few", Peer(sys.executable, "vlagent.yaml", arguments, joins=False, newlines=2))
    monkeypatch.setattr("benchmarks.live.ARRIVE_S", 5.0)
    load = Load(files=5, rate=200, seconds=1.0)
    result = await LiveBench(settle_s=0.1).run(load, "tiny")
    assert result.fault == ""
    assert result.checked.endswith(" documents")
    assert result.cpu_share > 0
    assert result.requests_s > 0
    assert "records arrived within" in (await LiveBench(settle_s=0.1).run(load, "few")).fault


def test_cpu_is_compared_with_that_of_a_peer_round_by_round() -> None:
    scenario = LiveScenario("live", "", Load(1, 1, 1), {"cpu_share": 4.0}, to_peers={"vlagent": 0.43})
    ours = [Live(cpu_share=0.04), Live(cpu_share=0.06), Live(fault="lost one"), Live(cpu_share=0.08)]
    theirs = [Live(cpu_share=0.10), Live(cpu_share=0.10), Live(cpu_share=0.01), Live(fault="lost one")]
    own, ratio, *others = scenario.rows(ours, {"vlagent": theirs})
    assert own.values == [4.0, 6.0, 8.0]
    assert ratio.values == pytest.approx([0.4, 0.6])
    assert (ratio.measure, ratio.verdict) == ("CPU, in vlagent's", "MISSED")
    assert [row.measure for row in others] == ["CPU, of vlagent", "RSS, of vlagent", "bulk requests, of vlagent"]
    assert [row.bar for row in others] == [None] * 3
    assert scenario.rows(ours, {}) == [own]


def test_data_is_generated_once(data: tuple[Path, Account]) -> None:
    folder, account = data
    before = (folder / "account.json").stat().st_mtime_ns
    again, _ = ensure_data(folder.parent, mib=1, pods=5, seed=1)
    assert again == folder
    assert (folder / "account.json").stat().st_mtime_ns == before
    assert account.bytes >= 2**20


@pytest.mark.parametrize("name", PEERS)
def test_every_peers_configuration_is_filled_in(data: tuple[Path, Account], tmp_path: Path, name: str) -> None:
    job = Job(data[0] / "pods", 9200, "plain", tmp_path)
    command = make_peer(name, "http://127.0.0.1:6443").command(job)
    text = (tmp_path / PEERS[name].file).read_text()
    all_of_it = " ".join([text, *command])
    assert str(job.pods if not PEERS[name].needs_api else tmp_path / "containers") in all_of_it
    assert "9200" in all_of_it
    assert not re.search("@[A-Z]+@", all_of_it)
    assert "run here" in text.splitlines()[0] + text.splitlines()[1] or "not run" in text


def test_links_are_named_as_kubelet_names_them(data: tuple[Path, Account], tmp_path: Path) -> None:
    make_peer("vlagent", "http://127.0.0.1:6443").command(Job(data[0] / "pods", 9200, "plain", tmp_path))
    links = list((tmp_path / "containers").iterdir())
    assert len(links) == len(data[1].containers)
    for container in data[1].containers:
        (link,) = (path for path in links if path.name.startswith(f"{container.pod}_{container.namespace}_"))
        assert re.fullmatch(rf".*_{container.container}-[0-9a-f]{{64}}\.log", link.name)
        assert container.uid in str(link.resolve())
        assert link.read_bytes().count(b"\n") == container.lines


async def test_a_peer_that_ends_by_itself_is_no_result_and_says_why(data: tuple[Path, Account]) -> None:
    code = "import sys; sys.exit('the configuration is wrong')"
    run = await Bench(*data, limit_s=200).measure(Command(code, ends=False), 1, None)
    assert run.fault == "ended by itself\nthe configuration is wrong"


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("kubernetes", [True, False])
async def test_shippers_configuration_is_valid(
    data: tuple[Path, Account], tmp_path: Path, variant: Variant, *, kubernetes: bool
) -> None:
    folder, account = data
    async with serve_pods(account, wanted=kubernetes) as api:
        subject = Shipper(api, mode="gzip", variant=variant)
        command = subject.command(Job(folder / "pods", 9200, "gzip", tmp_path, 9300))
    config = load(command[command.index("run") + 1])
    assert config.outputs[0].kind == "elasticsearch"
    assert "--once" in command


def test_cost_is_that_of_the_whole_process_tree() -> None:
    child = "x = bytearray(60_000_000)\nfor _ in range(2_000_000): pass"
    cost = measure([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"])
    assert cost.code == 0
    assert cost.rss_mb > 60
    assert 0.02 < cost.cpu_s < cost.wall_s * 2


def test_memory_of_whoever_starts_the_measuring_does_not_count(tmp_path: Path) -> None:
    ballast = b"x" * 150_000_000
    result = tmp_path / "cost.json"
    subprocess.run([sys.executable, "-m", "benchmarks.measure", result, sys.executable, "-c", "pass"], check=True)
    assert Cost.load(result).rss_mb < len(ballast) / 2e6


def run_of(subject: str, number: int, cpu_s: float, fault: str = "") -> Run:
    return Run(subject=subject, mode="plain", round=number, cost=Cost(0, cpu_s, 2.0, 80.0), documents=1, fault=fault)


def report_of(*runs: Run) -> Report:
    return Report(bytes=2**30, records=1, lines=100_000, runs=list(runs))


def test_ratios_are_taken_round_by_round() -> None:
    report = report_of(
        *(run_of("yardstick plain", 1, 10.0), run_of("plain", 1, 5.0)),
        *(run_of("yardstick plain", 2, 20.0), run_of("plain", 2, 12.0)),
        *(run_of("yardstick plain", 3, 10.0), run_of("plain", 3, 1.0, "lost one")),
    )
    table = show_runs(report).splitlines()
    assert "0.55 (0.50-0.60)" in table[3]
    assert "8.50 (5.00-12.00)" in table[3]
    assert "50k (50k-50k)" in table[3]


def test_a_bar_is_held_to_the_median_and_missed_by_less_than_nothing() -> None:
    report = report_of(run_of("yardstick plain", 1, 10.0), run_of("plain", 1, 2.0))
    cpu, lines, memory = Backlog("plain", "", cpu=0.25, lines=3.0).rows(report)
    assert (cpu.values, cpu.verdict) == ([0.2], "met")
    assert (lines.values, lines.verdict) == ([1.0], "MISSED")
    assert (memory.values, memory.verdict) == ([80.0], "met")
    assert Row(scenario="x", measure="y", values=[], bar=1.0).verdict == "no result"
    assert ">= 3" in show_rows([lines])


def test_growth_compares_costs_by_the_bytes_of_each_size_with_the_first() -> None:
    growth = Growth("g", "", (Size(1, 10), Size(2, 10), Size(2, 10, copies=2)))
    runs = [[(run_of("plain", 1, cpu_s), size)] for cpu_s, size in ((2.0, 100), (6.0, 200), (4.0, 400))]
    rows = growth.rows(runs)
    assert [row.values for row in rows if row.measure.startswith("...")] == [[1.5], [1.0], [0.5], [1.0]]
    assert [row.verdict for row in rows if row.measure.startswith("...")] == ["MISSED", "met", "met", "met"]
    assert [row.measure for row in rows if "RSS" in row.measure][-1] == "peak RSS, 4 MiB, 20 files"
    runs[2] = [(run_of("plain", 1, 4.0, "lost"), 400)]
    assert {row.verdict for row in growth.rows(runs) if row.bar} == {"no result"}


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler on PATH")
async def test_copies_of_a_pod_are_shipped_as_it_is_and_one_document_that_differs_is_found(
    data: tuple[Path, Account],
) -> None:
    folder, account = data
    async with serve_pods(account, wanted=True) as api:
        bench = Bench(folder, account, limit_s=30, sums=True)
        verdict, arrived = await bench.check(Shipper(api), labels=True)
    assert arrived is not None, verdict
    with copies_of(folder, account, 3) as (tree, pods, originals):
        wanted = {uid: arrived.sums[original] for uid, original in originals.items()}
        assert len(wanted) == 3 * len(account.containers)
        bench = Bench(tree, pods, limit_s=30, sums=True)
        async with serve_pods(pods, wanted=True) as api:
            run = await bench.measure(Shipper(api), 1, None, sums=wanted)
            assert run.fault == ""
            assert run.documents == 3 * account.records
            uid, (documents, total) = wanted.popitem()
            run = await bench.measure(Shipper(api), 1, None, sums=wanted | {uid: (documents, total + 1)})
            assert run.fault == "1 of 15 pods have other documents than those that were checked"
    assert not tree.exists()
    assert folder.exists()


def test_about_a_third_of_the_records_is_archived(data: tuple[Path, Account]) -> None:
    account = ensure_data(data[0].parent, mib=1, pods=30, seed=1)[1]
    part = account.where(lambda container: is_archived(container.labels))
    assert 0.25 < part.records / account.records < 0.4
