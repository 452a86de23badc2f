"""One script for each stage of the hot path, so that a change is judged in seconds.

    python -m benchmarks.micro.NAME [--seconds 1]

Each prints what its stage costs: of a line, a chunk, a file, whatever it is paid by. Machines differ, and change by the
minute: compare two runs on one machine, one after the other.
"""
