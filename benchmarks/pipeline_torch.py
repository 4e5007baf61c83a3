"""The same batches as a torch user builds them: a map-style Dataset of rows and a collate function.

`python -m benchmarks.pipeline_torch`, started by `benchmarks.pipeline`. At its best: labels, masks
and standardised statistics are computed once for all rows, columns are plain arrays over the memory
maps, the packing is the project's own best-fit placement, and a batch is put together by numpy.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import peak
from benchmarks.pipeline_world import BATCH, LABELLED, ROW, open_stream, summary
from benchmarks.turns import serve
from mtl_jax.data.batch import HOUR, Shape, time_features
from mtl_jax.data.labels import event_labels
from mtl_jax.data.packing import pack
from mtl_jax.data.pipeline import TrainStream

STATE: dict[str, Any] = {}
H = BATCH.history
Row = dict[str, Any]
Packed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]


class Rows(Dataset[Row]):
    """Row i of the training part as a dict, its history cut to the last H events."""

    def __init__(self, stream: TrainStream) -> None:
        data, every = stream.assembler.data, np.arange(len(stream.assembler.data.events["user"]))
        names = ("user", "item", "time", "hist_start", "hist_stop", "other")
        self.events = {k: np.asarray(data.events[k]) for k in names if k in data.events}
        self.history = {k: np.asarray(v) for k, v in data.history.items()}
        self.stats = data.standardised(np.asarray(data.events["stats"]))
        contexts = [c.name for c in data.schema.context]
        self.context = {name: np.asarray(data.events[f"ctx_{name}"]) for name in contexts}
        self.labels = event_labels(data, LABELLED, every)
        self.values = data.history_values(every)

    def __len__(self) -> int:
        return len(self.stats)

    def __getitem__(self, i: int) -> Row:
        e, h = self.events, self.history
        start, stop = e["hist_start"][i], e["hist_stop"][i]
        last = slice(max(start, stop - H), stop)
        return {
            "user": e["user"][i],
            "item": e["item"][i],
            "time": e["time"][i],
            "hist": h["item"][last][::-1],
            "hist_type": h["type"][last][::-1],
            "hist_time": h["time"][last][::-1],
            "hist_value": self.values[h["row"][last][::-1]],
            "stats": self.stats[i],
            "context": {k: v[i] for k, v in self.context.items()},
            "labels": {k: v[0][i] for k, v in self.labels.items()},
            "masks": {k: v[1][i] for k, v in self.labels.items()},
        }


class Collate:
    """Rows -> a batch: distinct items once, indices into them, their columns and packed texts."""

    def __init__(self, stream: TrainStream) -> None:
        data = stream.assembler.data
        self.schema, self.plan = data.schema, stream.plan
        self.items = {k: np.asarray(v) for k, v in data.items.items()}
        self.users = {k: np.asarray(v) for k, v in data.users.items()}

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        n = len(rows)
        user, item, time = (np.array([r[k] for r in rows]) for k in ("user", "item", "time"))
        hist = np.zeros((n, H), np.int32)
        kind = np.zeros((n, H), np.int32)
        when = np.zeros((n, H), np.int64)
        value = np.zeros((n, H, rows[0]["hist_value"].shape[1]), np.float32)
        for r, row in enumerate(rows):
            m = len(row["hist"])
            hist[r, :m], kind[r, :m], when[r, :m] = row["hist"], row["hist_type"], row["hist_time"]
            value[r, :m] = row["hist_value"]
        kind[hist == 0] = 0
        known = (hist > 0) & (when > 0)
        age = np.where(known, (time[:, None] - when) / HOUR, 0.0).astype(np.float32)
        users, at_user = np.unique(user, return_inverse=True)
        flat = np.concatenate([np.zeros(1, np.int32), item, hist.reshape(-1)])
        distinct, at = np.unique(flat, return_inverse=True)
        packed = self.packed(distinct[1:])
        needed = Shape(len(distinct), len(users), len(distinct), packed[-1])
        shape = self.plan.choose(needed)
        ids = np.zeros(shape.table, np.int32)
        ids[: len(distinct)] = distinct
        stats = np.stack([r["stats"] for r in rows])
        out: dict[str, np.ndarray] = {
            "user": at_user.astype(np.int32),
            "uniq/user": _padded(users, shape.users, self.schema.n_users),
            "u_warm": self.users["warm"][user].astype(np.float32),
            "item": at[1 : n + 1].astype(np.int32),
            "hist": at[n + 1 :].reshape(n, H).astype(np.int32),
            "hist_type": kind,
            "hist_age": np.log1p(np.maximum(age, 0.0)),
            "hist_value": value,
            "items/id": ids,
            "uniq/item": _padded(distinct, shape.items, self.schema.n_items),
            "items/warm": self.items["warm"][ids].astype(np.float32),
            **time_features(time),
        }
        for group in ("user", "item", "cross"):
            out[f"stats_{group}"] = stats[:, list(self.schema.statistic_indices(group))]
        for c in self.schema.user_categorical:
            out[f"u_cat_{c.name}"] = self.users[f"cat_{c.name}"][user]
        for c in self.schema.item_categorical:
            out[f"items/cat_{c.name}"] = self.items[f"cat_{c.name}"][ids]
        for side, columns in (("user", self.schema.user_dense), ("item", self.schema.item_dense)):
            if columns:
                found = self.users if side == "user" else self.items
                out[f"{side}/dense"] = found["dense"][user if side == "user" else ids]
        if self.schema.n_tags:
            out["items/tags"] = self.items["tags"][ids]
        for group in ("context", "labels", "masks"):
            for name in rows[0][group]:
                out[f"{group}/{name}"] = np.array([r[group][name] for r in rows])
        out |= self.texts(packed, shape)
        return {k: torch.from_numpy(v) for k, v in out.items()}

    def packed(self, wanted: np.ndarray) -> Packed:
        """Where texts start and end among all tokens, and where they go; rows needed."""
        offsets = self.items["token_offsets"]
        starts = offsets[wanted]
        lengths = offsets[wanted + 1] - starts
        row_of, offset_of = pack(lengths, ROW)
        return starts, lengths, row_of, offset_of, int(row_of.max(initial=-1)) + 1

    def texts(self, packed: Packed, planned: Shape) -> dict[str, np.ndarray]:
        """Texts packed best-fit into rows."""
        tokens = self.items["tokens"]
        starts, lengths, row_of, offset_of, _ = packed
        shape = (planned.packed, ROW)
        ids, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
        owner = np.full(shape, planned.table, np.int32)
        count = np.zeros(shape[0], np.int32)
        steps = np.arange(ROW, dtype=np.int32)
        for u, (s, m, r, o) in enumerate(
            zip(starts.tolist(), lengths.tolist(), row_of.tolist(), offset_of.tolist(), strict=True)
        ):
            if m:
                count[r] += 1
                ids[r, o : o + m] = tokens[s : s + m]
                segments[r, o : o + m] = count[r]
                positions[r, o : o + m] = steps[:m]
                owner[r, o : o + m] = u + 1
        out = {"ids": ids, "segments": segments, "positions": positions, "owner": owner}
        return {f"text/{k}": v for k, v in out.items()}


def _padded(values: np.ndarray, length: int, table: int) -> np.ndarray:
    out = table + np.arange(length, dtype=np.int32)
    out[: len(values)] = values
    return out


class Order:
    """The row numbers of batch 0, 1, ...: the same as the stream's."""

    def __init__(self, stream: TrainStream, steps: int) -> None:
        self.stream, self.steps = stream, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for k in range(self.steps):
            yield self.stream.rows(k).tolist()


def loader(stream: TrainStream, workers: int, steps: int = 1_000_000) -> DataLoader[Row]:
    """Batches in the stream's order."""
    return DataLoader(
        Rows(stream),
        batch_sampler=Order(stream, steps),
        collate_fn=Collate(stream),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def open_world(folder: str, events: int) -> dict[str, Any]:
    """Which torch this is."""
    STATE["stream"] = open_stream(folder, events)
    torch.set_num_threads(1)  # nothing is computed by torch
    return {"torch": torch.__version__, "cores": torch.get_num_threads()}


def look(step: int) -> dict[str, float]:
    """Summary of a batch, as `pipeline_ours.look`."""
    stream = STATE["stream"]
    rows = Rows(stream)
    b = {k: v.numpy() for k, v in Collate(stream)([rows[i] for i in stream.rows(step)]).items()}
    sums = {
        "history": float((b["hist"] > 0).sum()),
        "age": float(b["hist_age"].astype(np.float64).sum()),
        "stats": float(b["stats_user"].astype(np.float64).sum()),
        "clicks": float(b["labels/click"].sum()),
        "values": float(b["hist_value"].astype(np.float64).sum()),
        "users": len(np.unique(b["user"])),
    }
    return summary(b["items/id"], b["text/segments"], sums)


def prepare(workers: int) -> list[int]:
    """Starts an iterator with so many worker processes; their numbers."""
    before = _children()
    STATE[f"batches-{workers}"] = iter(loader(STATE["stream"], workers))
    next(STATE[f"batches-{workers}"])
    return sorted(_children() - before)


def _children() -> set[int]:
    found = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in found for pid in path.read_text().split()}


def run(workers: int, steps: int) -> float:
    """Seconds for so many batches."""
    batches = STATE[f"batches-{workers}"]
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return time.perf_counter() - start


if __name__ == "__main__":
    serve({"open": open_world, "look": look, "prepare": prepare, "run": run, "peak": peak.of_torch})
