"""Where the parts are wired: from a checked configuration to a running daemon. It reads as a list."""

import asyncio
import contextlib
import gc
import logging
import shutil
import signal
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shipper import __version__, native
from shipper.audit import as_json
from shipper.checkpoint import Checkpoint, StateLock
from shipper.config.changes import ConfigChanges, compare
from shipper.config.model import Config
from shipper.config.show import config_hash
from shipper.dead_letters import DeadLetters
from shipper.errors import ShipperError
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.inputs.tail.config import TailConfig
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.input import TailInput
from shipper.log import fields, set_level
from shipper.metrics import Metrics
from shipper.outputs.base import Output
from shipper.outputs.config import OutputConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.worker import OutputWorker, Retry
from shipper.parts import make_metadata, make_output, make_pace, node_name, own_pod
from shipper.pipeline.crew import Start, share_of
from shipper.pipeline.host import LetterBox, OutputHost
from shipper.pipeline.pipeline import Arrangement, Pipeline, Settings
from shipper.pipeline.plans import Plans
from shipper.pipeline.report import Report
from shipper.reload import NotNow, Outcome, Reloader, Torn
from shipper.router import Route, Router
from shipper.tasks import TaskGuard

log = logging.getLogger(__name__)

FORGET_S = 1.0


def _plans(config: Config, outputs: Sequence[Output], metadata: Any, *, node: str) -> Plans:
    routes = [Route(o.name, tuple(c.match), o.template) for o, c in zip(outputs, config.outputs, strict=True)]
    waits = [f.wait for f in config.filters if isinstance(f, KubernetesConfig)]
    return Plans(
        Router(config.filters, routes, node=node),
        outputs,
        metadata,
        wait_s=max(waits, default=0.0),
        static=config.service.fields,
        limits={i.name: i.max_record_bytes for i in config.inputs},
    )


def _settings(config: Config) -> Settings:
    return Settings(
        drain_timeout_s=config.service.drain_timeout,
        hold_deleted_bytes=config.service.hold_deleted,
        history_s=config.service.history,
        read_from={i.name: i.read_from for i in config.inputs},
        memory_limit=config.service.memory_limit,
    )


def _settle_memory() -> None:
    """What was loaded stays for good: the garbage collector need not look at it again, nor at every list of a chunk.

    Nor even once: of its 80,000 objects 2,000 would go, for a twentieth of the start.

    Chunks make lists by the thousand and no cycles; the default threshold of 700 costs a tenth of all time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    gc.enable()


def _forget_soon() -> None:
    """A client that was closed is megabytes in circles, which the garbage collector would find only after long."""
    asyncio.get_running_loop().call_later(FORGET_S, gc.collect)


class Daemon:
    """Everything that one `shipper run` holds open; closed in the reverse order.

    State, checkpoint, dead letters, server and metrics are there for good. What the configuration asks for besides
    (inputs, filters, outputs, limits) is exchanged by a reload.
    """

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        """`reread` loads the configuration again, and blocks; without it, it is in force until the end."""
        service = config.service
        self.config = config
        self.metrics = Metrics()
        self.node = node_name(config)
        state_dir = Path(service.state_dir)
        self._lock = StateLock(state_dir)
        self._checkpoint = Checkpoint(state_dir)
        self._stored = self._checkpoint.load()
        self._letters = DeadLetters.open(state_dir, service.dead_letters.max_bytes)
        self._box = LetterBox(self._letters, self._find, self._count_loss)
        outputs = [make_output(o) for o in config.outputs]
        self.metadata = make_metadata(config, self.metrics)
        self.pipeline = Pipeline(
            settings=_settings(config),
            metrics=self.metrics,
            checkpoint=self._checkpoint,
            stored=self._stored,
            plans=_plans(config, outputs, self.metadata, node=self.node),
            workers={o.name: self._worker(o, config) for o in outputs},
            metadata=self.metadata,
        )
        self.workers = self.pipeline.workers
        self.pipeline.inputs = [self._input(i, self.node) for i in config.inputs]
        self.pipeline.housekeeper.on_forgotten_output = self._remove_spool
        self.pipeline.crew.on_left = _forget_soon
        self._host = OutputHost(
            service.state_dir,
            self.node,
            self.metrics,
            self._stored,
            self.pipeline.find,
            self.pipeline.journal.committed,
            self.pipeline.losses.count,
        )
        self.report = Report(
            self.pipeline,
            version=__version__,
            native="no" if native.MODULE is None else "yes",
            config_hash=config_hash(config),
            memory_limit=service.memory_limit,
        )
        self.report.node = self.node
        self.metrics.add_gauges(self.report.gauges)
        self.reloader = Reloader(reread or (lambda: config), self._take_over, self.metrics)
        self.report.reloads = self.reloader.status

    def _worker(self, output: Output, config: Config) -> OutputWorker:
        own = next(o for o in config.outputs if o.name == output.name)
        return OutputWorker(
            output,
            limit_bytes=share_of(config.service.memory_limit, len(config.outputs), output),
            retry=Retry(own.retry.initial, own.retry.max),
            metrics=self.metrics,
            letters=self._box,
            on_room=self._on_room,
            max_targets=own.batch.max_targets if isinstance(own, ElasticsearchConfig) else None,
            pace=make_pace(own) if isinstance(own, ElasticsearchConfig) else None,
        )

    def _input(self, config: TailConfig, node: str, before: TailInput | None = None) -> TailInput:
        return TailInput(config, self.pipeline, self.metrics, node=node, own_pod=own_pod(), before=before)

    def _find(self, id_: int) -> Generation | None:
        return self.pipeline.find(id_)

    def _count_loss(self, generation: Generation, output: str, reason: str, count: int) -> None:
        self.pipeline.losses.count(generation, output, reason, count)

    def _on_room(self) -> None:
        self.pipeline.pump.room()

    def _remove_spool(self, output: str) -> None:
        from shipper.outputs.s3.manifest import manifest_folder
        from shipper.outputs.s3.spool import spool_folder

        for folder_of in (spool_folder, manifest_folder):
            folder = folder_of(self.config.service.state_dir, output)
            asyncio.get_running_loop().run_in_executor(None, partial(shutil.rmtree, folder, ignore_errors=True))

    async def run(
        self,
        *,
        once: bool = False,
        stop: asyncio.Event | None = None,
        progress: Callable[["Daemon"], None] | None = None,
    ) -> None:
        """Until SIGTERM or SIGINT (or `stop`); with `once`, until all that is there is delivered."""
        stop = stop or asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reloader.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # `shipper run` has kept it back until now
        if once:
            self.reloader.refuse("with --once the configuration is read at the start only")
        server = await self._serve()
        try:
            self.pipeline.restore()
            if self.metadata is not None:
                self.metadata.on_change(self.pipeline.metadata_changed)
                await self.metadata.start(self.config.service.state_dir)
            for worker in self.workers.values():
                await self._start(worker.output)
            log.info(
                "started",
                extra=fields(
                    version=__version__,
                    node=self.node,
                    state_dir=self.config.service.state_dir,
                    encoder=native.name(),
                ),
            )
            if not gc.isenabled():  # as `shipper run` leaves it; a test's process keeps its own ways
                _settle_memory()
            if native.MODULE is None:
                log.info("the native encoder is not used", extra=fields(reason=native.WHY_NOT))
            ticker = loop.call_later(0, self._tick, progress) if progress else None
            await self.pipeline.run(stop, once=once, beside=self._start_reloader)
            if ticker is not None:
                ticker.cancel()
        finally:
            self.reloader.refuse("the daemon is stopping")
            for output in self.pipeline.crew.open_outputs():
                await output.close()
            if self.metadata is not None:
                await self.metadata.close()
            if server is not None:
                await server.close()
            log.info("stopped", extra=fields(lost_bytes=self.lost_bytes(), rejected_records=self.rejected_records()))

    async def _start(self, output: Output) -> None:
        try:
            await output.start(self._host)
        except ssl.SSLError as exc:
            raise ShipperError(
                f"output {output.name} cannot be started: a certificate or key file of its tls section cannot "
                f"be used: {exc}"
            ) from exc
        except OSError as exc:
            raise ShipperError(f"output {output.name} cannot be started: {exc}") from exc

    # -- another configuration ----------------------------------------------------------------------------------------

    def _start_reloader(self, guard: TaskGuard) -> None:
        guard.start(self.reloader.run, name="reload", endless=True)

    async def _take_over(self, config: Config) -> Outcome:
        """All that can fail comes before the exchange, and is undone where it does. Raises ShipperError."""
        changes = compare(self.config, config)
        if not changes.said:
            return Outcome(result="unchanged", needs_restart=changes.needs_restart)
        config, old_metadata = changes.config, self.metadata
        async with contextlib.AsyncExitStack() as undo:
            starts: dict[str, Start] = {}
            workers = {o.name: await self._worker_for(o, changes, starts, undo) for o in config.outputs}
            metadata = await self._metadata_for(changes, undo)
            node = node_name(config)
            arrangement = Arrangement(
                settings=_settings(config),
                plans=_plans(config, [w.output for w in workers.values()], metadata, node=node),
                inputs=self._inputs_for(changes, node),
                workers=workers,
                metadata=metadata,
                starts=starts,
            )
            async with self.pipeline.held():
                borders = await self.pipeline.borders(arrangement)
                if not self.pipeline.is_reading:
                    raise NotNow("the daemon is stopping")
                undo.pop_all()
                try:
                    self.pipeline.exchange(arrangement, borders)
                    self._is_in_force(config, metadata, node)
                except Exception as exc:
                    raise Torn("the daemon ends, since it stands between two configurations") from exc
        await self.pipeline.rescan()
        if old_metadata is not None and old_metadata is not metadata:
            await old_metadata.close()
        return Outcome(result="done", changed=changes.said, needs_restart=changes.needs_restart)

    async def _worker_for(
        self, config: OutputConfig, changes: ConfigChanges, starts: dict[str, Start], undo: contextlib.AsyncExitStack
    ) -> OutputWorker:
        """The one at work, where its output is as it was. A new one starts at once if its name is free."""
        if config.name not in changes.outputs:
            return self.workers[config.name]
        output = await asyncio.to_thread(make_output, config)  # which may import a library
        undo.push_async_callback(self._give_up, output)
        if output.durable is not None and self.pipeline.crew.has(config.name):
            starts[config.name] = partial(self._start_later, output)
        else:
            await self._start_later(output)
        return self._worker(output, changes.config)

    async def _start_later(self, output: Output) -> None:
        """With what whoever had its name has left in the state."""
        self._stored.rows[output.name] = await asyncio.to_thread(self._checkpoint.rows, output.name)
        if output.durable is not None:
            self.pipeline.journal.durables[output.name] = output.durable
        await self._start(output)

    async def _give_up(self, output: Output) -> None:
        await output.close()
        if self.pipeline.journal.durables.get(output.name) is output.durable:
            self.pipeline.journal.durables.pop(output.name, None)

    async def _metadata_for(self, changes: ConfigChanges, undo: contextlib.AsyncExitStack) -> Any:
        """A new watch begins with what the old one knows: nobody waits for labels that are known."""
        if not changes.metadata:
            return self.metadata
        if self.metadata is not None:
            await self.metadata.save()
        metadata = await asyncio.to_thread(make_metadata, changes.config, self.metrics)
        if metadata is not None:
            undo.push_async_callback(metadata.close)
            metadata.on_change(self.pipeline.metadata_changed)
            await metadata.start(self.config.service.state_dir)
        return metadata

    def _inputs_for(self, changes: ConfigChanges, node: str) -> list[TailInput]:
        """Those that go on, and new ones; tags may name the node."""
        before = {tail.name: tail for tail in self.pipeline.inputs}
        kept = before.keys() - changes.inputs if node == self.node else set()
        return [
            before[i.name] if i.name in kept else self._input(i, node, before.get(i.name))
            for i in changes.config.inputs
        ]

    def _is_in_force(self, config: Config, metadata: Any, node: str) -> None:
        self.config, self.metadata, self.node = config, metadata, node
        self._host.node = self.report.node = node
        self._letters.max_bytes = config.service.dead_letters.max_bytes
        self.report.config_hash = config_hash(config)
        self.report.memory_limit = config.service.memory_limit
        set_level(config.service.log_level)

    def _tick(self, progress: Callable[["Daemon"], None]) -> None:
        progress(self)
        if self.pipeline.is_reading or not self.pipeline.has_scanned:
            asyncio.get_running_loop().call_later(1.0, self._tick, progress)

    async def _serve(self) -> Any:
        if self.config.service.http is None:
            return None
        from shipper.server import HttpServer

        server = HttpServer(
            self.config.service.http,
            metrics=self.metrics,
            health=self.report.health,
            ready=self.report.ready,
            status=self.report.status,
            audit=lambda: {"state_dir": self.config.service.state_dir, **as_json(self.report.accounts())},
            reload=self.reloader.answer,
        )
        await server.start()
        return server

    def close(self) -> None:
        self._checkpoint.close()
        self._letters.close()
        self._lock.release()

    def rejected_records(self) -> int:
        return self.pipeline.crew.rejected_records()

    def lost_bytes(self) -> int:
        return self.report.lost_bytes()
