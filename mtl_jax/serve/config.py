"""How recommendations are ranked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RankConfig:
    """score = sum of weight x prediction over `weights`; empty takes every task that ranks.

    weights: (task, weight). A binary task counts by its probability, a regression by its value
        placed in its range, a retrieval task by its softmax share among the candidates.
    candidates: items from the retrieval task that are ranked by all tasks; 0 ranks the catalogue.
    exclude_consumed: leave out what the user already had.
    """

    weights: tuple[tuple[str, float], ...] = ()
    candidates: int = 200
    exclude_consumed: bool = True
