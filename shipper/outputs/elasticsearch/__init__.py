"""Elasticsearch 8 and 9, OpenSearch 2 and 3, through one client.

`node` makes the client's transport carry our bytes as they are, `client` asks and translates its errors,
`judge` decides from an answer what became of each record (pure, without a socket), `output` joins them. `check`
and `setup` are for the commands of these names. Batching, retrying and counting of records are the shared
worker's.
"""
