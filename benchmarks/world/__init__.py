"""The world around the shipper, simulated: applications, a kubelet, the Kubernetes API, Elasticsearch, and a checker.

The demo, the benchmarks and the tests all use it. Nothing here imports `shipper`: the judge must not share code
with what it judges.
"""
