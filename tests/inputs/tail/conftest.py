from collections.abc import AsyncIterator

import pytest

from tests.inputs.tail.reader import Reader


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    made = Reader()
    yield made
    made.check()
    for generation in made.generations:
        generation.close()
