"""Outputs: where records go. A new one is a folder or file here, a line in this table, and a case in
shipper.parts.make_output.

The table holds configuration models only: an output's network library is imported when it is configured.
"""

from shipper.outputs.config import OutputConfig
from shipper.outputs.elasticsearch.config import ElasticsearchConfig
from shipper.outputs.file import FileConfig
from shipper.outputs.s3.config import S3Config
from shipper.outputs.stdout import StdoutConfig

_MODELS: tuple[type[OutputConfig], ...] = (ElasticsearchConfig, S3Config, FileConfig, StdoutConfig)
OUTPUTS = {model.kind: model for model in _MODELS}
