"""What a configuration asks for, made: outputs, the kubernetes filter, and the names that this node and pod go by.

The daemon wires these parts to its pipeline (`shipper.app`); a command that sends something by itself does without it.
"""

import os
import socket
from typing import Any

from shipper.config.changes import metadata_of
from shipper.config.model import Config
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.metrics import Metrics
from shipper.outputs.base import Output
from shipper.outputs.config import OutputConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.file import FileConfig
from shipper.outputs.pace import Pace
from shipper.outputs.s3.config import S3Config
from shipper.outputs.stdout import StdoutConfig


def make_output(config: OutputConfig) -> Output:
    """Imports an output's library only when it is configured."""
    match config:
        case ElasticsearchConfig():
            from shipper.outputs.elasticsearch.output import ElasticsearchOutput

            return ElasticsearchOutput(config)
        case S3Config():
            from shipper.outputs.s3.output import S3Output

            return S3Output(config)
        case FileConfig():
            from shipper.outputs.file import FileOutput

            return FileOutput(config)
        case StdoutConfig():
            from shipper.outputs.stdout import StdoutOutput

            return StdoutOutput(config)
        case _:
            raise TypeError(f"no output of type {config.kind}")


def make_pace(config: ElasticsearchConfig) -> Pace:
    """An answer is slow when a sixth of the time is over after which none would be waited for."""
    return Pace(
        least_bytes=config.batch.min_bytes,
        most_bytes=config.batch.max_bytes,
        most_requests=config.concurrency,
        slow_s=config.timeout / 6,
    )


def make_metadata(config: Config, metrics: Metrics) -> Any:
    """The kubernetes filter, where one is configured."""
    found = metadata_of(config)
    if found is None:
        return None
    from shipper.filters.kubernetes.filter import KubernetesFilter

    return KubernetesFilter(found, metrics)


def node_name(config: Config) -> str:
    configured = [f.node_name for f in config.filters if isinstance(f, KubernetesConfig) and f.node_name]
    return configured[0] if configured else os.environ.get("NODE_NAME") or socket.gethostname()


def own_pod() -> tuple[str, str] | None:
    """Namespace and name of the pod this runs in: its own log would feed itself."""
    name, namespace = os.environ.get("POD_NAME"), os.environ.get("POD_NAMESPACE")
    return (namespace, name) if name and namespace else None
