"""Which rows are train (0), valid (1) and test (2).

Ties in time are broken by the row's place in the source: of two events of one second the later
row is the later event. A cut by time never falls inside a second.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig

TIE_RULE = "events of the same second are ordered by their row in the source"


@dataclass(frozen=True)
class Split:
    """part: [N] int8. valid_from, test_from: unix seconds of a split by time, else 0.

    digest: sha256 over (source row, part), recorded with every result.
    """

    part: np.ndarray
    rule: str
    valid_from: int
    test_from: int
    digest: str


def split_events(
    user: np.ndarray,
    time: np.ndarray,
    row: np.ndarray,
    config: DataConfig,
    given: np.ndarray | None = None,
) -> Split:
    """Splits events that are sorted by (time, row).

    Args:
        user, time, row: [N] integers.  given: [N] parts of the source, where it has them.

    Raises:
        UserError: no training or no validation rows, given parts asked for and absent, or
            cut times in the wrong order.
    """
    valid_from = test_from = 0
    if config.split == "given":
        if given is None:
            raise UserError(
                f"data.split=given, but source {config.source!r} gives no parts; "
                "use data.split=time or leave_last_out"
            )
        part = given.astype(np.int8)
    elif config.split == "leave_last_out":
        part = _leave_last_out(user)
    else:
        valid_from, test_from = _cuts(time, config)
        part = ((time >= valid_from).astype(np.int8) + (time >= test_from)).astype(np.int8)
    for code, name in ((0, "train"), (1, "valid")):
        if not (part == code).any():
            raise UserError(
                f"data.split={config.split} leaves no {name} rows among {len(part)} events "
                f"(cut times {valid_from}, {test_from}); change data.split or its fractions"
            )
    return Split(part, config.split, valid_from, test_from, _digest(row, part))


def _leave_last_out(user: np.ndarray) -> np.ndarray:
    """Rows are in time order: number each user's events from the last one backwards."""
    order = np.argsort(user, kind="stable")
    sorted_user = user[order]
    last = np.searchsorted(sorted_user, sorted_user, side="right") - 1
    first = np.searchsorted(sorted_user, sorted_user, side="left")
    from_end = last - np.arange(len(user))
    long_enough = last - first >= 2  # of one or two events none can be spared
    part = np.zeros(len(user), np.int8)
    part[order] = np.where(long_enough & (from_end < 2), 2 - from_end, 0)
    return part


def _cuts(time: np.ndarray, config: DataConfig) -> tuple[int, int]:
    if config.valid_from or config.test_from:
        end = max(int(time[-1]) + 1, config.valid_from)
        valid_from, test_from = config.valid_from or config.test_from, config.test_from or end
        if valid_from > test_from:
            raise UserError(f"data.valid_from={valid_from} lies after data.test_from={test_from}")
        return valid_from, test_from
    valid, test = config.valid_fraction, config.test_fraction
    if valid <= 0 or test < 0 or valid + test >= 1:
        raise UserError(
            f"data.valid_fraction={valid} and data.test_fraction={test} must be positive and "
            "leave something to train on"
        )
    shares = (1 - valid - test, 1 - test)
    if config.fraction_of == "time":
        start, span = int(time[0]), int(time[-1]) - int(time[0]) + 1
        return start + int(np.ceil(shares[0] * span)), start + int(np.ceil(shares[1] * span))
    later = np.append(time, time[-1] + 1)
    return int(later[round(shares[0] * len(time))]), int(later[round(shares[1] * len(time))])


def _digest(row: np.ndarray, part: np.ndarray) -> str:
    order = np.argsort(row, kind="stable")
    digest = hashlib.sha256(row[order].astype("<i8").tobytes())
    digest.update(part[order].astype("i1").tobytes())
    return digest.hexdigest()
