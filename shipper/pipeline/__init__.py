"""Moves chunks from log files to outputs: what is read when (pump), what becomes of it (lanes), what is durable
(journal).

The stages know each other only through small contracts; shipper.pipeline.pipeline starts, drains and stops them.
"""
