"""Inputs: where records come from. A new one is a folder or file here, and a line in this table."""

from shipper.inputs.tail.config import TailConfig

INPUTS = {model.kind: model for model in (TailConfig,)}
