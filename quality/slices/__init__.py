"""Spans repaired in slices of their traces: flat in memory, one process per core."""
