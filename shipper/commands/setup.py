"""`shipper setup`: what the destinations need before they are sent anything."""

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shipper.commands import DONE, load
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.s3.config import S3Config

if TYPE_CHECKING:
    from shipper.outputs.config import OutputConfig


def setup(options: argparse.Namespace) -> int:
    config = load(options)
    archives = [o for o in config.outputs if isinstance(o, S3Config)]
    is_needed = False
    for each in config.outputs:
        for line in asyncio.run(_set_up(each, archives, dry_run=options.dry_run)):
            print(f"{each.name}: {line}")
            is_needed = True
    if not is_needed:
        print("nothing to set up: no output of this configuration needs it")
    return DONE


async def _set_up(output: "OutputConfig", archives: Sequence[S3Config], *, dry_run: bool) -> list[str]:
    match output:
        case ElasticsearchConfig():
            from shipper.outputs.elasticsearch.setup import setup as set_up_elasticsearch

            return await set_up_elasticsearch(output, dry_run=dry_run)
        case S3Config(lifecycle=lifecycle) if lifecycle is not None:
            from shipper.outputs.s3.setup import setup as set_up_bucket

            return await set_up_bucket(output, archives, dry_run=dry_run)
        case _:
            return []
