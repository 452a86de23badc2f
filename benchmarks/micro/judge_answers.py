"""Answers of a bulk request of 5,000 records into fates: all well, and one record in a hundred refused."""

from functools import partial

import orjson

from benchmarks.micro.stage import options, say, seconds_of
from shipper.delivery import Batch
from shipper.outputs.elasticsearch.judge import judge_response

RECORDS = 5000


def _answer(refused: int) -> bytes:
    bad = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "failed to parse field [x]"}}
    items = [{"create": bad if i % 100 == 0 and refused else {"status": 201}} for i in range(RECORDS)]
    return orjson.dumps({"errors": bool(refused), "items": items})


def main() -> None:
    limit_s = options(__doc__)
    batch = Batch(bytearray(), [], RECORDS, 2)
    for what, refused in (("all well", 0), ("one in a hundred refused", 1)):
        answer = _answer(refused)
        judge = partial(judge_response, 200, {"content-type": "application/json"}, answer, batch)
        say(what, seconds_of(judge, limit_s=limit_s), RECORDS, "record")


if __name__ == "__main__":
    main()
