"""Opens a prepared folder: memory-mapped columns, vocabularies and frozen statistics."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.hashing import hashed_rows
from mtl_jax.data.history_features import Entries, HistoryStatistics
from mtl_jax.data.schema import Schema
from mtl_jax.data.statistics import Statistics
from mtl_jax.data.vocab import Vocabulary

FORMAT = 4  # raised whenever the bytes of a prepared folder change their meaning


class Columns(Mapping[str, np.ndarray]):
    """The .npy files of a folder by name, memory-mapped when first asked for."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder, self._names = folder, names
        self._open: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._open:
            if name not in self._names:
                raise KeyError(name)
            self._open[name] = open_array(self._folder / f"{name}.npy")
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder.

    events: columns of [N] (stats [N, F], next_items [N, 5]), sorted by (time, source row).
    history: the pool that hist_start and hist_stop cut.  items: [n_items, ...].  users: likewise.
    """

    folder: Path
    manifest: Mapping[str, Any]
    schema: Schema
    events: Columns
    history: Columns
    items: Columns
    users: Columns

    @property
    def split_hash(self) -> str:
        """sha256 over which source row is of which part; stands in every result."""
        return str(self.manifest["split"]["sha256"])

    def part(self, code: int) -> np.ndarray:
        """Rows of a part (0 train, 1 valid, 2 test), ascending, int64."""
        return np.flatnonzero(self.events["split"] == code)

    def vocabulary(self, name: str) -> Vocabulary:
        """One of "users", "items", "tags", "cat_<column>", "user_cat_<column>", "ctx_<column>"."""
        return Vocabulary.load(self.folder / "vocab" / f"{name}.json")

    @cached_property
    def statistics(self) -> Statistics:
        """The frozen tables."""
        return Statistics.load(self.folder / "statistics")

    @cached_property
    def history_statistics(self) -> HistoryStatistics | None:
        """What the columns that compare histories with items need; None without such columns."""
        if not self.statistics.config.history:
            return None
        return HistoryStatistics.load(self.folder / "statistics" / "history", self.statistics)

    def frozen_features(
        self,
        users: np.ndarray,
        items: np.ndarray,
        contexts: Mapping[str, np.ndarray],
        now: np.ndarray,
        entries: Entries,
    ) -> np.ndarray:
        """What events/stats.npy says of rows after training, for any rows: [n, F] float32.

        Args:
            users, items: [n] ids.  contexts: name -> [n].  now: [n] unix seconds.
            entries: the n rows' histories, strictly before `now`.
        """
        pairs = self.statistics.features(users, items, contexts, now)
        if self.history_statistics is None:
            return pairs
        return np.concatenate([pairs, self.history_statistics.features(items, now, entries)], 1)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The rendered text of every item, "" for item 0; pairs are joined by a blank."""
        with (self.folder / "items" / "texts.jsonl").open(encoding="utf-8") as lines:
            return ("", *(json.loads(line)["text"] for line in lines))

    @cached_property
    def transforms(self) -> Mapping[str, Any]:
        """Fitted numbers: dense columns' and statistics' mean and std."""
        text = (self.folder / "vocab" / "transforms.json").read_text(encoding="utf-8")
        found: Mapping[str, Any] = json.loads(text)
        return found

    def history_values(self, rows: np.ndarray) -> np.ndarray:
        """Labels `Schema.history_values` of events `rows` [...], -1 = no event: [..., 2 V] float32.

        The first V are standardised by the training rows' mean and standard deviation, 0 where
        missing; the last V are 1 where there is a value.
        """
        found = [np.zeros((*rows.shape, 0))]
        for name in self.schema.history_values:
            fitted = self.transforms["labels"].get(name, {"mean": 0.0, "std": 1.0})
            value = np.asarray(self.events[f"label_{name}"])[rows]
            value = np.where(rows >= 0, (value - fitted["mean"]) / fitted["std"], np.nan)
            found.append(value[..., None])
        stacked = np.concatenate(found, -1)
        known = np.isfinite(stacked)
        return np.concatenate([np.where(known, stacked, 0.0), known], -1).astype(np.float32)

    def standardised(self, statistics: np.ndarray) -> np.ndarray:
        """[..., F] statistics by the training rows' mean and standard deviation, float32.

        Cut to `StatisticsConfig.clip` on either side where that is above 0.
        """
        fitted = self.transforms["statistics"]
        mean, std = (np.asarray(fitted[name], np.float32) for name in ("mean", "std"))
        scaled: np.ndarray = (statistics - mean) / std
        clip = fitted["clip"]
        return np.clip(scaled, -clip, clip) if clip else scaled

    @cached_property
    def positive_share(self) -> np.ndarray:
        """[n_items] float64, each item's share of the training positives; sums to 1 (or is 0)."""
        positives = self.items["positives"].astype(np.float64)
        return positives / max(positives.sum(), 1.0)

    @cached_property
    def positive_rate(self) -> float:
        """Share of the training rows that are positive."""
        return float(self.items["positives"].sum()) / max(len(self.part(0)), 1)

    def user_row(self, user: int, name: str) -> int:
        """Row of the users' table for a user id of the source, known (`user` > 0) or not."""
        if not self.schema.user_buckets:
            return user
        return int(hashed_rows([name], self.schema.user_buckets)[0])

    def user_rows(self, users: np.ndarray) -> np.ndarray:
        """Rows of the users' table for dense user ids [n]."""
        if not self.schema.user_buckets:
            return users
        rows: np.ndarray = self.users["row"][users]
        return rows

    @cached_property
    def trained_user_rows(self) -> np.ndarray:
        """[Schema.user_rows] bool: rows of users with a training row; others are never used."""
        warm: np.ndarray = self.users["warm"]
        if not self.schema.user_buckets:
            return warm
        found = np.zeros(self.schema.user_rows, bool)
        found[self.users["row"][warm]] = True
        found[0] = False
        return found

    @cached_property
    def n_warm(self) -> int:
        """Items with a training row."""
        return int(self.items["warm"].sum())

    @property
    def digest(self) -> str:
        """sha256 of the manifest: of everything in the folder."""
        return hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()

    def require_vocabulary(self, digest: str, what: str) -> None:
        """Refuses to serve something that was made with other ids or codes.

        Args:
            digest: `vocabulary_digest` of the data `what` was made with.

        Raises:
            UserError: vocabulary mismatch.
        """
        if digest != self.vocabulary_digest:
            raise UserError(
                f"vocabulary mismatch: {what} was made with vocabularies {digest[:12]}, "
                f"{self.folder} has {self.vocabulary_digest[:12]}; use the prepared data it was "
                "trained on, or train again"
            )

    @property
    def vocabulary_digest(self) -> str:
        """sha256 over all vocabularies and the schema."""
        return str(self.manifest["vocabulary_digest"])


def open_prepared(folder: str | Path, verify: bool = False) -> Prepared:
    """Opens a folder that `prepare` wrote.

    Args:
        verify: hash every file; otherwise sizes are compared, and vocabularies hashed.

    Raises:
        UserError: no prepared folder, another format, a missing, truncated or changed file,
            a vocabulary mismatch.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.exists():
        raise UserError(f"{folder} is no prepared folder (no manifest.json); run prepare first")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); prepare again") from None
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {manifest.get('format')!r}, this version reads {FORMAT}; prepare again"
        )
    for name, told in manifest["files"].items():
        _check_file(folder, name, told, verify)
    groups = {
        group: Columns(
            folder / group,
            tuple(
                Path(name).stem
                for name in manifest["files"]
                if name.startswith(f"{group}/") and name.endswith(".npy")
            ),
        )
        for group in ("events", "history", "items", "users")
    }
    return Prepared(folder, manifest, Schema.from_dict(manifest["schema"]), **groups)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_array(path: Path) -> np.ndarray:
    """A memory-mapped .npy; UserError naming the file if it cannot be read."""
    try:
        values: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: unreadable or truncated ({error}); prepare again") from None
    return values


def _check_file(folder: Path, name: str, told: Mapping[str, Any], verify: bool) -> None:
    path = folder / name
    if not path.exists():
        raise UserError(f"{path} is missing; prepare again")
    if path.stat().st_size != told["bytes"]:
        what = "vocabulary mismatch" if name.startswith("vocab/") else "truncated or changed"
        raise UserError(
            f"{path}: {what}: {path.stat().st_size} bytes, the manifest says {told['bytes']}; "
            "prepare again"
        )
    if (verify or name.startswith("vocab/")) and file_digest(path) != told["sha256"]:
        what = "vocabulary mismatch" if name.startswith("vocab/") else "changed"
        raise UserError(f"{path}: {what}: not the file the manifest was written for; prepare again")
