"""Which rows are train (0), valid (1) and test (2).

Ties in time are broken by the row's place in the source: of two events of one second the later
row is the later event. A cut by time never falls inside a second.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig
from mtl_jax.data.sources.read import parquet_frame

PARTS = ("train", "valid", "test", "left out")  # by their codes
LEFT_OUT = 3
TIE_RULE = "events of the same second are ordered by their row in the source"


@dataclass(frozen=True)
class Split:
    """Which row is of which part.

    part: [N] int8, codes of PARTS. valid_from, test_from: unix seconds of a split by time, else 0.
    digest: sha256 over (source row, part), recorded with every result.
    drawn: rows were drawn whatever their time: a row may have been trained on that is later than
        one it is judged by. Histories are then made of training rows alone.
    """

    part: np.ndarray
    rule: str
    valid_from: int
    test_from: int
    digest: str
    drawn: bool = False


def split_events(
    user: np.ndarray,
    time: np.ndarray,
    row: np.ndarray,
    config: DataConfig,
    given: np.ndarray | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """Splits events that are sorted by (time, row).

    Args:
        user, time, row: [N] integers.  given: [N] parts of the source, where it has them.
        labels: name -> [N] float, what `stratify` may name.

    Raises:
        UserError: no training or no validation rows, given parts asked for and absent, cut times
            in the wrong order, fractions or folds out of range, an unreadable or another file.
    """
    valid_from = test_from = 0
    drawn = config.split in ("ratio", "file")
    if config.split == "given":
        if given is None:
            raise UserError(
                f"data.split=given, but source {config.source!r} gives no parts; "
                "use data.split=time or leave_last_out"
            )
        part = given.astype(np.int8)
    elif config.split == "leave_last_out":
        part = _leave_last_out(user)
    elif config.split == "ratio":
        part = _ratio(row, config, labels or {})
    elif config.split == "kfold":
        drawn = config.fold_by == "row"
        part = _kfold(user if config.fold_by == "user" else row, config)
    elif config.split == "file":
        part = _from_file(row, Path(config.split_file))
    else:
        cuts = _rolling_cuts if config.split == "rolling" else _cuts
        valid_from, test_from = cuts(time, config)
        part = ((time >= valid_from).astype(np.int8) + (time >= test_from)).astype(np.int8)
        if config.split == "rolling":
            part[part == 2] = LEFT_OUT
    for code, name in ((0, "train"), (1, "valid")):
        if not (part == code).any():
            raise UserError(
                f"data.split={config.split} leaves no {name} rows among {len(part)} events "
                f"(cut times {valid_from}, {test_from}); change data.split or its fractions"
            )
    return Split(part, config.split, valid_from, test_from, _digest(row, part), drawn)


def left_out(split: Split, row: np.ndarray, dropped: np.ndarray) -> Split:
    """The split without the rows `dropped` [N]; UserError if nothing is left to train on."""
    if not dropped.any():
        return split
    part = np.where(dropped, LEFT_OUT, split.part).astype(np.int8)
    if not (part == 0).any():
        raise UserError("data.fitted.bot_events drops every training row; set it higher")
    return replace(split, part=part, digest=_digest(row, part))


def split_frame(row: np.ndarray, part: np.ndarray) -> pl.DataFrame:
    """What `split.parquet` holds: source row (from 0) and the name of its part, by row."""
    order = np.argsort(row, kind="stable")
    names = np.array(PARTS)[part[order]]
    return pl.DataFrame({"row": row[order], "part": names})


def _from_file(row: np.ndarray, path: Path) -> np.ndarray:
    """The parts of a file that `split_frame` made, or of any with columns row and part."""
    if not path.is_file():
        raise UserError(f"data.split_file={path}: there is no such file")
    frame = parquet_frame(path, path)
    if "row" in frame.columns and "part" in frame.columns:
        frame = frame.select("row", "part")
    if frame.schema != {"row": pl.Int64, "part": pl.String} or frame["row"].is_duplicated().any():
        raise UserError(
            f"data.split_file={path}: it must have a column row of distinct int64 and a column "
            f"part of strings; found {dict(frame.schema)}"
        )
    wrong = ~frame["part"].is_in(PARTS).fill_null(False)
    if wrong.any():
        first = int(wrong.arg_max() or 0)
        raise UserError(
            f"data.split_file={path}, row {first + 1}, column part: {frame['part'][first]!r} is "
            f"not one of {', '.join(PARTS)}"
        )
    order = np.argsort(frame["row"].to_numpy(), kind="stable")
    known = frame["row"].to_numpy()[order]
    at = np.minimum(np.searchsorted(known, row), max(len(known) - 1, 0))
    absent = np.ones(len(row), bool) if not len(known) else known[at] != row
    if absent.any():
        raise UserError(
            f"data.split_file={path}: row {int(row[np.argmax(absent)])} of the source (the first "
            "is 0) has no part; the file is of other data or of another cleaning"
        )
    codes = frame["part"].replace_strict(PARTS, range(len(PARTS)), return_dtype=pl.Int8)
    part: np.ndarray = codes.to_numpy()[order][at]
    return part


def _ratio(row: np.ndarray, config: DataConfig, labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows drawn, within each value of the label that stratifies."""
    valid, test = _fractions(config)
    strata = np.zeros(len(row), np.int64)
    if config.stratify:
        if config.stratify not in labels:
            raise UserError(
                f"data.stratify={config.stratify!r}: no such label; there are {sorted(labels)}"
            )
        strata = np.nan_to_num(labels[config.stratify], nan=-1.0).astype(np.int64)
    part = np.zeros(len(row), np.int8)
    draw = np.random.default_rng(config.split_seed)
    for value in np.unique(strata):
        mine = np.flatnonzero(strata == value)
        mine = draw.permutation(mine[np.argsort(row[mine], kind="stable")])
        first, second = round(test * len(mine)), round((test + valid) * len(mine))
        part[mine[:first]], part[mine[first:second]] = 2, 1
    return part


def _kfold(unit: np.ndarray, config: DataConfig) -> np.ndarray:
    """Rows, or users with all their rows, drawn into folds of equal size."""
    _check_fold(config)
    distinct, index = np.unique(unit, return_inverse=True)
    order = np.random.default_rng(config.split_seed).permutation(len(distinct))
    fold = np.empty(len(distinct), np.int64)
    fold[order] = np.arange(len(distinct)) % config.folds
    return (fold[index] == config.fold).astype(np.int8)


def _rolling_cuts(time: np.ndarray, config: DataConfig) -> tuple[int, int]:
    _check_fold(config)
    later = np.append(time, time[-1] + 1)
    at = [round((config.fold + k) * len(time) / (config.folds + 1)) for k in (1, 2)]
    return int(later[at[0]]), int(later[at[1]])


def _check_fold(config: DataConfig) -> None:
    if config.folds < 2 or not 0 <= config.fold < config.folds:
        raise UserError(
            f"data.fold={config.fold}, data.folds={config.folds}: there must be at least 2 folds, "
            "and fold is from 0 to folds - 1"
        )


def _fractions(config: DataConfig) -> tuple[float, float]:
    valid, test = config.valid_fraction, config.test_fraction
    if valid <= 0 or test < 0 or valid + test >= 1:
        raise UserError(
            f"data.valid_fraction={valid} and data.test_fraction={test} must be positive and "
            "leave something to train on"
        )
    return valid, test


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
    valid, test = _fractions(config)
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
