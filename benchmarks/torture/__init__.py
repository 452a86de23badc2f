"""`make torture`: a node's hour in some seconds, with everything going wrong at once, and what became of every record.

The daemon runs as a process of its own beside a kubelet, an API server, an Elasticsearch and an S3 server that are
simulated, or broken on purpose. Here is what drives and judges them; they themselves are in `benchmarks.world`.
"""
