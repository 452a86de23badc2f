"""Benchmarks and the demo: development tools, not part of the installed package."""
