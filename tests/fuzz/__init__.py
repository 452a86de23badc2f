"""Whatever others may hand us, as bytes: log files, answers, watches, configurations, files of the state, labels.

Each target runs for some seconds with the other tests; `make fuzz` runs all, with new seeds, for as long as it is told.
"""
