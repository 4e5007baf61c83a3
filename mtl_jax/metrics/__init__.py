"""Metrics on the host, in float64: by kind of task, and ranking; intervals by users.

Start at `registry.METRICS`, `report.evaluate_task`, `report.evaluate_ranking`, and
`bootstrap.paired_difference` / `bootstrap.share_of_gap`.
"""
