"""What was shipped once is sent again, by a command that runs beside the daemon, or without one.

`letters` replays dead letters, `archive` what is archived: `source` finds the objects, `objects` reads records out of
them, `place` says where a record belongs, `progress` remembers what is done. `sender` is what both have in common: an
output and its worker. Nothing here touches a cursor. A document goes out under the id that it has, so that what is
there already counts as delivered.
"""
