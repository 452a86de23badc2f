"""An output that asks what is there, and sends nothing."""

from shipper.delivery import Batch, Delivery
from shipper.outputs.elasticsearch.output import ElasticsearchOutput


class Rehearsal(ElasticsearchOutput):
    """Calls `duplicates` what is there already, and `delivered` what would be sent. Needs `must_know`."""

    async def send(self, batch: Batch) -> Delivery:
        assert self._verifier is not None, "start comes first"
        found = await self._verifier.find(batch, in_plain_indices=True)
        return Delivery(duplicates=len(found or ()))
