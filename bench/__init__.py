"""Benchmarks: they print tables and write JSON, and judge nothing. `make bench`, or `python -m kubeling.bench --help`."""
