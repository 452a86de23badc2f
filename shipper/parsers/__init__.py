"""Pure functions from bytes of a log file to columns of records: one module for each way to frame records.

Nothing here knows of files, outputs or Kubernetes. `parse` is the one entry: bytes in, `Records` out.
"""

from shipper.parsers import docker
from shipper.parsers.frames import FORMATS, Format, detect_format, parse
from shipper.parsers.records import Records
from shipper.parsers.summary import Summary
from shipper.record import START, Ranges, State

__all__ = ["FORMATS", "START", "Format", "Ranges", "Records", "State", "Summary", "detect_format", "docker", "parse"]
