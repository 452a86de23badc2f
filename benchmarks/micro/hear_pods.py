"""A node of 5,000 pods of which nobody has a log: hearing of all of them on the watch."""

import argparse

import msgspec

from benchmarks.micro.stage import say, seconds_of
from benchmarks.world.kubernetes_objects import make_pod
from shipper.filters.kubernetes.cache import MetadataCache
from shipper.filters.kubernetes.config import KubernetesConfig
from shipper.filters.kubernetes.metadata import Describer
from shipper.filters.kubernetes.sinks import PodSink
from shipper.filters.kubernetes.watch import Progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--pods", type=int, default=5000)
    options = parser.parse_args()
    pods = (
        make_pod(f"quiet-{number}", namespace="shop", owner=("ReplicaSet", "quiet")) for number in range(options.pods)
    )
    lines = [msgspec.json.encode({"type": "ADDED", "object": pod}) for pod in pods]

    def hear() -> None:
        progress = Progress(PodSink(MetadataCache(Describer(KubernetesConfig()))))
        for line in lines:
            progress.hear(line)

    say("hearing of a pod", seconds_of(hear, limit_s=options.seconds), options.pods, "pod")


if __name__ == "__main__":
    main()
