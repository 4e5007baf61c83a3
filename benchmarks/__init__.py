"""Throughput against the floor and against peers; one script a question."""
