"""The real daemon as a process of its own, between simulated or real neighbours on loopback.

Nothing here looks into the daemon: it is judged by what arrives, by its exit code, and by what it says over HTTP and in
its commands.
"""
