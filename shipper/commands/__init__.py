"""What each command does, in modules that are loaded when they are asked for; `shipper.cli` says what each takes.

A command is a function of its options that returns an exit code: 0 done (also SIGTERM with undelivered data: it is safe
on disk); 1 failed; 2 the configuration is wrong; 3 done, but records were rejected or bytes were lost.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shipper.config.model import Config

DONE, FAILED, WRONG_CONFIG, WITH_LOSSES = 0, 1, 2, 3
INTERRUPTED = 130  # by Ctrl-C, as shells have it


def load(options: argparse.Namespace) -> "Config":
    from shipper.config.loader import load

    return load(options.config)
