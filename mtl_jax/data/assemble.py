"""Builds batches from prepared columns: the one place that knows a batch's keys. numpy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.data.batch import (
    HOUR,
    BatchConfig,
    Rows,
    Shape,
    distinct,
    item_tables,
    local,
    padded,
    padded_rows,
    time_features,
)
from mtl_jax.data.labels import event_labels, item_labels
from mtl_jax.data.packing import Places, pack_tokens, place
from mtl_jax.data.prepared import Prepared


@dataclass(frozen=True)
class TextSource:
    """Where an item's text comes from: pooled vectors, or tokens packed to rows of `length`.

    vectors: [n_items, Dt], frozen and pooled.  tokens, offsets: flat ids, [n_items + 1].
    states: [tokens, D] frozen token states of the layer below the trained ones.
    types: [tokens] token types of text pairs.
    """

    vectors: HostArray | None = None
    tokens: HostArray | None = None
    offsets: HostArray | None = None
    states: HostArray | None = None
    length: int = 128
    history_tokens: int = 0
    types: HostArray | None = None


@dataclass(frozen=True)
class Asked:
    """What a batch's rows ask for: per (slice, shard) its items once, 0 first, and their texts.

    places: empty where no texts are packed.  shape: the smallest that holds all this.
    """

    tables: list[HostArray]
    places: list[Places]
    shape: Shape


@dataclass(frozen=True)
class Assembler:
    """Rows -> batch, for one prepared folder, one list of tasks and one source of text."""

    data: Prepared
    tasks: tuple[TaskSpec, ...]
    config: BatchConfig
    text: TextSource

    def event_rows(self, index: HostArray, labels: bool = True) -> Rows:
        """The rows of prepared events `index` [n]."""
        e = self.data.events
        start, stop = e["hist_start"][index], e["hist_stop"][index]
        found = event_labels(self.data, self.tasks, index) if labels else {}
        return self.rows(
            np.asarray(e["user"][index]),
            np.asarray(e["item"][index]),
            np.asarray(e["time"][index]),
            start,
            stop,
            self.data.standardised(e["stats"][index]),
            {c.name: np.asarray(e[f"ctx_{c.name}"][index]) for c in self.data.schema.context},
            {k: v[0] for k, v in found.items()},
            {k: v[1] for k, v in found.items()},
            np.asarray(e["other"][index]) if self.data.schema.other else None,
        )

    def rows(
        self,
        user: HostArray,
        item: HostArray,
        time: HostArray,
        start: HostArray,
        stop: HostArray,
        stats: HostArray,
        context: dict[str, HostArray],
        labels: dict[str, HostArray] | None = None,
        masks: dict[str, HostArray] | None = None,
        other: HostArray | None = None,
    ) -> Rows:
        """Rows whose histories are history[start:stop], the most recent first."""
        h = self.data.history
        back = stop[:, None] - 1 - np.arange(self.config.history)[None, :]
        there = back >= start[:, None]
        at = np.where(there, back, 0)
        seen = np.where(there, h["item"][at] if len(h["item"]) else 0, 0).astype(np.int32)
        there &= seen > 0
        kind = np.where(there, h["type"][at] if len(h["type"]) else 0, 0).astype(np.int32)
        when = h["time"][at] if len(h["time"]) else np.zeros_like(at)
        known = there & (when > 0)
        age = np.where(known, (time[:, None] - when) / HOUR, 0.0).astype(np.float32)
        return Rows(
            user, item, time, seen, kind, np.log1p(np.maximum(age, 0.0)),
            self.data.history_values(np.where(there, h["row"][at] if len(h["row"]) else -1, -1)),
            stats, context, labels or {}, masks or {}, other=other,
        )  # fmt: skip

    def shape_of(self, rows: Rows, candidates: list[HostArray], parts: tuple[int, int]) -> Shape:
        """The smallest shape that holds these rows."""
        return self.asked(rows, candidates, parts).shape

    def asked(self, rows: Rows, candidates: list[HostArray], parts: tuple[int, int]) -> Asked:
        """The distinct items of these rows, and where their texts go."""
        tables, sizes = item_tables(rows, candidates, *parts)
        t, places = self.text, []
        if t.vectors is None and t.tokens is not None:
            assert t.offsets is not None
            places = [place(t.offsets, table[1:], t.length) for table in tables]
        packed = max((p.rows for p in places), default=0)
        every = tables[0] if len(tables) == 1 else np.unique(np.concatenate(tables))
        users = len(distinct(self._user_rows(rows)))
        return Asked(tables, places, Shape(int(sizes.max()), users, len(every), packed))

    def batch(
        self,
        rows: Rows,
        candidates: list[HostArray],
        shape: Shape,
        parts: tuple[int, int] = (1, 1),
        train: bool = True,
        asked: Asked | None = None,
    ) -> dict[str, HostArray]:
        """A batch of static `shape`; `candidates`: per (slice, shard) extra item ids.

        asked: that of these rows and candidates, where it is known.
        """
        slices, shards = parts
        found = asked or self.asked(rows, candidates, parts)
        tables = found.tables
        split = (slices, shards, len(rows.user) // (slices * shards))

        def cut(values: HostArray) -> HostArray:
            return values.reshape(*split, *values.shape[1:])

        def per_table(f: Any) -> HostArray:
            stacked = np.stack([f(p, t) for p, t in enumerate(tables)])
            return stacked.reshape(slices, shards, *stacked.shape[1:])

        target = cut(rows.item).reshape(slices * shards, -1)
        history = rows.history.reshape(slices * shards, split[2], -1)
        out = self._user_side(rows, shards, shape, cut)
        out["item"] = per_table(lambda p, t: local(t, target[p]))
        out["hist"] = per_table(lambda p, t: local(t, history[p]))
        if self.data.schema.other:  # 0, no item, where a request names none
            named = np.zeros_like(target) if rows.other is None else rows.other
            other = named.reshape(target.shape)
            out["other"] = per_table(lambda p, t: local(t, other[p]))
        ids = per_table(lambda p, t: padded(t, shape.table, 0))
        out |= self._item_side(ids, shards, shape)
        out |= {f"label/{k}": cut(v) for k, v in rows.labels.items()}
        out |= {f"mask/{k}": cut(v) for k, v in rows.masks.items()}
        for task in self.tasks:
            if task.level == "item" and train:
                out |= item_labels(self.data, task, ids)
        if found.places:
            packs = [self._pack(t, p, shape) for t, p in zip(tables, found.places, strict=True)]
            for key in packs[0]:
                stacked = np.stack([p[key] for p in packs])
                out[f"text/{key}"] = stacked.reshape(slices, shards, *stacked.shape[1:])
        if train and any(t.kind == "retrieval" for t in self.tasks):
            out |= self._candidates(rows, candidates, tables, out, split)
        return out

    def _user_side(self, rows: Rows, shards: int, shape: Shape, cut: Any) -> dict[str, HostArray]:
        u, schema = self.data.users, self.data.schema
        row = self._user_rows(rows)
        users = distinct(row)
        out = {
            "user": cut(local(users, row)),
            "uniq/user": padded_rows(users, shape.users, schema.user_rows).reshape(shards, -1),
            "u_warm": cut(self.data.trained_user_rows[row].astype(np.float32)),
            "hist_type": cut(rows.history_type),
            "hist_age": cut(rows.history_age),
        }
        if schema.history_values:
            out["hist_value"] = cut(rows.history_value)
        for group in ("user", "item", "cross"):
            out[f"stats_{group}"] = cut(rows.stats[:, list(schema.statistic_indices(group))])
        for c in schema.user_categorical:
            given = rows.profile.get(c.name)
            codes = u[f"cat_{c.name}"][rows.user] if given is None else given
            out[f"u_cat/{c.name}"] = cut(np.asarray(codes))
        if schema.user_dense:
            out["u_dense"] = cut(np.asarray(u["dense"][rows.user]))
        out |= {k: cut(v) for k, v in time_features(rows.time).items()}
        out |= {f"ctx/{k}": cut(v) for k, v in rows.context.items()}
        if self.text.history_tokens:
            out |= {k: cut(v) for k, v in self._history_text(rows).items()}
        return out

    def _user_rows(self, rows: Rows) -> HostArray:
        """Rows of the users' table [n]; a stranger may share a trained one by its hash."""
        return self.data.user_rows(rows.user) if rows.user_row is None else rows.user_row

    def _item_side(self, ids: HostArray, shards: int, shape: Shape) -> dict[str, HostArray]:
        i, schema = self.data.items, self.data.schema
        every = distinct(ids)
        out = {
            "items/id": ids,
            "items/row": local(every, ids),
            "uniq/item": padded_rows(every, shape.items, schema.n_items).reshape(shards, -1),
            "items/warm": i["warm"][ids].astype(np.float32),
        }
        for c in schema.item_categorical:
            out[f"items/cat_{c.name}"] = np.asarray(i[f"cat_{c.name}"][ids])
        if schema.category:
            out["items/category"] = out[f"items/cat_{schema.category}"]
        if schema.n_tags:
            out["items/tags"] = np.asarray(i["tags"][ids])
        if schema.item_dense:
            out["items/dense"] = np.asarray(i["dense"][ids])
        if self.text.vectors is not None:
            out["text/vectors"] = np.asarray(self.text.vectors[ids])
        return out

    def _candidates(
        self,
        rows: Rows,
        candidates: list[HostArray],
        tables: list[HostArray],
        out: dict[str, HostArray],
        split: tuple[int, int, int],
    ) -> dict[str, HostArray]:
        """Candidates of retrieval: the batch's positives and the given ones (or these alone)."""
        drawn = np.stack([local(t, c) for t, c in zip(tables, candidates, strict=True)])
        drawn = drawn.reshape(*split[:2], -1)
        ids = out["items/id"]
        if self.config.negatives < 0:  # every trained item stands as a candidate once
            return {"cand": drawn, "items/log_q": np.zeros(ids.shape, np.float32)}
        task = next(t for t in self.tasks if t.kind == "retrieval")
        positive = out[f"mask/{task.name}"] > 0
        cand = np.concatenate([np.where(positive, out["item"], 0), drawn], -1)
        share = self.data.positive_share[ids]
        expected = share * split[1] * split[2] * self.data.positive_rate
        expected = expected + self.config.negatives / self.data.n_warm
        return {"cand": cand.astype(np.int32), "items/log_q": np.log(expected).astype(np.float32)}

    def _pack(self, table: HostArray, places: Places, shape: Shape) -> dict[str, HostArray]:
        """The table's texts, packed; item 0 has none."""
        t = self.text
        assert t.tokens is not None
        assert t.offsets is not None
        packs = pack_tokens(t.tokens, t.offsets, table[1:], t.length, shape.packed, places=places)
        n, end = len(table) - 1, shape.table
        packs["owner"] = np.where(packs["owner"] < n, packs["owner"] + 1, end).astype(np.int32)
        real = packs["owner"] < end
        if t.states is None and t.types is None:
            return packs
        start = np.append(places.starts, 0)
        flat = start[np.where(real, packs["owner"] - 1, n)] + packs["positions"]
        if t.states is not None:
            packs["states"] = np.where(real[..., None], np.asarray(t.states[flat]), 0)
        if t.types is not None:
            packs["types"] = np.where(real, t.types[flat], 0).astype(np.int32)
        return packs

    def _history_text(self, rows: Rows) -> dict[str, HostArray]:
        """The history rendered as text: the latest items' texts, one after the other, cut to L."""
        t = self.text
        assert t.tokens is not None
        assert t.offsets is not None
        n, length = len(rows.user), t.history_tokens
        ids = np.zeros((n, length), np.int32)
        mask = np.zeros((n, length), np.int32)
        for r in range(n):
            at = 0
            for item in rows.history[r]:
                if item == 0 or at >= length:
                    break
                text = t.tokens[t.offsets[item] : t.offsets[item + 1]]
                text = text[at > 0 :][: length - at]  # one [CLS], each text ends in its [SEP]
                ids[r, at : at + len(text)], mask[r, at : at + len(text)] = text, 1
                at += len(text)
        return {"history_text/ids": ids, "history_text/mask": mask}
