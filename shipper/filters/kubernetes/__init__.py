"""Metadata of pods, from one watch of this node's pods.

    api.py        requests: the only module that knows kubernetes_asyncio and aiohttp
    watch.py      one watch of one kind of object, for ever
    sinks.py      what becomes of the objects that it tells of
    pod.py        what is kept of a pod
    metadata.py   what a configuration makes of it: documents, exclusion, the end of a container
    cache.py      pods, answers, changes; no I/O
    questions.py  single pods that were looked up before the watch has told of them; no I/O
    snapshot.py   the cache on disk, for a restart while the API is down
    node.py       the name of this node, when nobody has said it
    check.py      what `shipper check --online` tries
    pace.py       all time-outs and delays
    filter.py     all of it together, behind shipper.filters.base.MetadataSource

What decides by metadata (tags, drops, targets) does not belong here: that is the router's.
"""
