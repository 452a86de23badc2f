"""Real servers for the tests: each a child process on loopback, on free ports, its data in a temporary folder.

`make servers` fetches them (`install`), a fixture starts each (`elasticsearch`, `opensearch`, ...). A test that asks
for a server which is not installed here is skipped with the reason. What a server shall do on demand (be slow, hang,
lie) is not here: that is what the fakes in `benchmarks/world/` are for.
"""
