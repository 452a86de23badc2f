"""The archive on S3 and servers like it.

`output` takes batches into the `spool`, `uploads` brings what is closed to the `bucket`; `api` and `sdk_data` are the
only modules that know the SDK. Nothing here knows of cursors: a row of the spool is committed beside them, and that is
all. Commands read an archive by `download`.
"""
