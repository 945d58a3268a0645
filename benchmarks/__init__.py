"""Benchmarks: one file per question, ours and a yardstick in turn in one run. `python -m benchmarks --help` says how."""
