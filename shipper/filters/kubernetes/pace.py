"""How long things take, in seconds. One place, so that tests can be quicker than a cluster."""

from random import uniform

import msgspec


class Pace(msgspec.Struct, frozen=True):
    connect_timeout_s: float = 10.0
    request_timeout_s: float = 30.0  # a list without resourceVersion=0 never answers while etcd hangs
    watch_silence_s: float = 150.0  # bookmarks come every minute: after this the connection is taken for dead
    watch_lasts_s: tuple[float, float] = (300.0, 600.0)  # timeoutSeconds, as client-go has it
    initial_lasts_s: float = 15.0  # 5,000 pods take 1 s; then the bookmark after the initial events is not coming
    relist_jitter_s: float = 2.0  # all nodes lose their watches together when an API server restarts
    retry_first_s: float = 0.5
    retry_max_s: float = 30.0
    settle_s: float = 2.0  # pods wait so long for the labels of namespaces and node, so as to be told once
    grace_s: float = 0.5  # the watch knows a pod of this node before its first line is written: it is asked first
    question_gap_s: float = 0.1  # between two GETs of single pods
    snapshot_every_s: float = 10.0

    def backoff_s(self, failures: int) -> float:
        """Before the next attempt, after so many failures in a row."""
        return min(self.retry_max_s, self.retry_first_s * 2.0 ** min(failures, 16)) * uniform(0.5, 1.0)
