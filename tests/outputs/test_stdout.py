"""Standard output: whole documents, also through a slow pipe; and a reader that goes."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from shipper.errors import Disconnected
from shipper.outputs.stdout import StdoutConfig, StdoutOutput
from tests.fakes.host import batch_of, documents


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


async def test_a_batch_larger_than_the_pipe_arrives_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    written = documents(0, 5000)
    output = StdoutOutput(StdoutConfig(), descriptor=writer)

    def read_all() -> bytes:
        content = b""
        while len(content) < sum(map(len, written)):
            content += os.read(reader, 1000)
        return content

    delivery, content = await asyncio.gather(output.send(batch_of(("", written))), asyncio.to_thread(read_all))
    await output.close()
    assert content == b"".join(written)
    assert not delivery.spooled


async def test_closing_does_not_wait_for_a_reader_that_has_stopped(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    output = StdoutOutput(StdoutConfig(), descriptor=writer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await output.send(batch_of(("", documents(0, 5000))))
    async with asyncio.timeout(100):
        await output.close()


async def test_when_the_reader_goes_the_daemon_is_asked_to_stop_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    stopped = []
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: stopped.append(True))
    output = StdoutOutput(StdoutConfig(), descriptor=writer)
    try:
        for _ in range(2):
            with pytest.raises(Disconnected, match="nobody reads"):
                await output.send(batch_of(("", documents(0, 1))))
        while not stopped:
            await asyncio.sleep(0)
        assert output.status() == {"reader_gone": True}
        assert stopped == [True]
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        await output.close()
