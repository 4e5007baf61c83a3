"""Towers, context, scores and fusion of one data shard; and the heads over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import choose
from mtl_jax.core.rng import key_for
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, Batch
from mtl_jax.data.schema import Schema
from mtl_jax.nn import scores
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.context import Context, Gate
from mtl_jax.nn.heads import CosineHead, Head, OrdinalHead, RetrievalHead
from mtl_jax.nn.item_tower import ItemTower
from mtl_jax.nn.ordinal import start_thresholds
from mtl_jax.nn.trunks import TRUNKS
from mtl_jax.nn.trunks.check import check_trunk, trunk_tasks
from mtl_jax.nn.trunks.esmm import conditional_starts
from mtl_jax.nn.user_tower import Attend, UserTower

Representation = dict[str, Array]
Outputs = dict[str, Any]
# Keys of Outputs beside the tasks' names.
PENALTIES, GATES = "trunk/penalties", "trunk/gates"


@dataclass(frozen=True)
class LabelStats:
    """Mean and spread (or base log-odds and 1) of a label over training rows: the heads' start.

    each: base log-odds of every label of "multilabel"; the thresholds of "ordinal".
    """

    mean: float = 0.0
    std: float = 1.0
    each: tuple[float, ...] = ()


class Towers(nn.Module):
    """One shard: rows and text vectors -> all that tasks share.

    unseen: per item and cross statistic, its value for an item never seen (NaN where the column
    does not depend on the item's id); given, an item whose id is dropped loses them as well.
    """

    config: ModelConfig
    schema: Schema
    mu: float = 0.0
    unseen: tuple[float, ...] | None = None

    @nn.compact
    def __call__(
        self,
        user_rows: Array,
        item_rows: Array,
        text: Array | None,
        history_text: Array | None,
        batch: Batch,
        deterministic: bool,
    ) -> Representation:
        c, s = self.config, self.schema
        d = c.width
        item_keep = self._keep(batch["items/warm"], "item", deterministic)
        user_keep = self._keep(batch["u_warm"], "user", deterministic)
        items = ItemTower(c, s, name="item")(item_rows, item_keep, text, batch, deterministic)
        target = batch["item"]
        item = jnp.take(items, target, axis=0)
        others = []
        if c.target_attention:
            others.append((Attend(c.user_heads, d, c.dtype, name="target"), item))
        user, seen, told = UserTower(c, s, name="user")(
            items, user_rows, user_keep, history_text, batch, deterministic, others
        )
        context = Context(c, s, name="context")(batch)
        user = Gate(name="context_gate")(user, context)
        rep = {"user": user, "items": items, "context": context}
        if s.n_categories:
            rep["interest"] = nn.Dense(s.n_categories, name="interest")(user)
        rep["item_bias"] = item_rows[:, d + 1] * item_keep

        if text is not None:  # for heads that compare texts
            rep["target_text"] = jnp.take(text, target, axis=0)
            if s.other:
                rep["other_text"] = jnp.take(text, batch["other"], axis=0)
        row_keep = jnp.take(item_keep, target)
        item_bias = jnp.take(item_rows[:, d], target) * row_keep * c.item_id
        user_bias = user_rows[:, d] * user_keep * c.user_id
        found = {
            "collaborative": scores.collaborative(
                user, item, user_bias, item_bias, jnp.asarray(self.mu)
            ),
        }
        if s.n_categories:
            found["interest"] = scores.interest(rep["interest"], self._category(batch))
        if text is not None:
            mean, best = scores.content(text, target, batch["hist"])
            found |= {"content_mean": mean, "content_max": best}
        stacked = jnp.stack([found[k] for k in scores.SCORES if k in found], -1)
        fused, gate = scores.Fusion(c, name="fusion")(stacked, context, user)
        parts = [user, item, user * item, context, fused[:, None], stacked, *told]
        for x in seen:
            parts += [x.astype(jnp.float32), item * x]
        plain = [self._stats(batch, row_keep), batch["stats_user"]]
        if c.inputs == "plain":
            plain += self._item_columns(batch)
            read = jax.lax.stop_gradient(jnp.concatenate([fused[:, None], stacked], -1))
            rep["wide"] = jnp.concatenate([*plain, read], -1)
            if c.wide_text and text is not None:
                rep["text"] = jnp.take(2.0 * scores.unit(text), target, axis=0)
            parts = plain
        else:
            parts += plain
        return rep | {
            "z": jnp.concatenate(parts, -1),
            "scores": stacked,
            "gate": gate,
            "fused": fused,
        }

    def _keep(self, warm: Array, name: str, deterministic: bool) -> Array:
        """1 where the id may be used: trained on, and not dropped this time."""
        rate = self.config.id_dropout
        if deterministic or not rate:
            return warm
        key = key_for(self.make_rng("dropout"), f"id_{name}")
        return warm * jax.random.bernoulli(key, 1.0 - rate, warm.shape)

    def _item_columns(self, batch: Batch) -> list[Array]:
        """The row's item: its tags [B, n_tags] as 0 and 1 and their number, its numbers."""
        found, target = [], batch["item"]
        if self.schema.n_tags:
            tags = jnp.take(batch["items/tags"], target, axis=0)
            hot = jax.nn.one_hot(tags, self.schema.n_tags).sum(1)[:, 1:]
            found += [hot, hot.sum(-1, keepdims=True) / 3.0]
        if self.schema.item_dense:
            found.append(jnp.take(batch["items/dense"], target, axis=0))
        return found

    def _category(self, batch: Batch) -> Array:
        return jnp.take(batch["items/category"], batch["item"])

    def _stats(self, batch: Batch, row_keep: Array) -> Array:
        """Item and cross statistics; the columns of an item's id are hidden with the id."""
        x = jnp.concatenate([batch["stats_item"], batch["stats_cross"]], -1)
        if self.unseen is None:
            return x
        unseen = jnp.asarray(self.unseen, x.dtype)
        hide = (1.0 - row_keep)[:, None] * jnp.isfinite(unseen)
        return jnp.where(hide > 0, jnp.nan_to_num(unseen), x)


def bounded(value: Array, low: float | None, high: float | None, stats: LabelStats) -> Array:
    """`value`, bent smoothly into (low, high) where both are known; slope 1 at the labels' mean.

    low + (high - low) sigmoid(.), so that a sure 5 costs no certainty about the 4s.
    """
    if low is None or high is None:
        return value
    p = min(max((stats.mean - low) / (high - low), 0.01), 0.99)
    slope = (high - low) * p * (1.0 - p)
    logit = jnp.log(p / (1.0 - p)) + (value - stats.mean) / slope
    return low + (high - low) * jax.nn.sigmoid(logit)


class Heads(nn.Module):
    """One shard: trunk and heads over a representation.

    Returns {task: output} and, under names that no task has, what the trunk says beside: PENALTIES
    {task: scalar}, to be added to a task's mean loss (empty when deterministic), and GATES
    {task: [B, E]}, for reading only.
    """

    config: ModelConfig
    tasks: tuple[TaskSpec, ...]
    labels: Mapping[str, LabelStats]

    @nn.compact
    def __call__(self, rep: Representation, deterministic: bool) -> Outputs:
        c = self.config
        trunk = choose(TRUNKS, c.trunk, "trunk")(c, name="trunk")
        check_trunk(c, self.tasks)
        on_trunk = {t.name: self._head(t, rep, deterministic) for t in trunk_tasks(self.tasks)}
        found = trunk(rep["z"], on_trunk, deterministic)
        out: Outputs = {PENALTIES: found.penalties, GATES: found.gates}
        for t in self.tasks:
            if t.kind == "retrieval":
                query, key = RetrievalHead(c, name=f"head_{t.name}")(rep["user"], rep["items"])
                out[t.name] = {"query": query, "key": key, "bias": rep["item_bias"]}
            elif t.label == "interest":  # read where the interest score was made
                out[t.name] = rep["interest"]
            elif t.kind == "similarity":
                out[t.name] = self._similarity(t, rep, deterministic)
            elif t.name in on_trunk:
                out[t.name] = found.outputs[t.name]
            else:
                source = {"item": rep["items"], "user": rep["user"]}[t.level]
                out[t.name] = self._head(t, rep, deterministic)(source)
        return out

    def _head(
        self, t: TaskSpec, rep: Representation, deterministic: bool
    ) -> Callable[[Array], Array]:
        """The task's head under head_<task>: features [B, F] -> output [B] or [B, C]."""
        stats = self._start(t)
        wide = rep.get("wide", rep["z"]) if t.level == "event" else None
        text = rep.get("text") if t.level == "event" else None
        name = f"head_{t.name}"
        if t.kind == "ordinal":
            start = stats.each or start_thresholds(np.zeros(t.size))
            head: nn.Module = OrdinalHead(self.config, start, name=name)
        else:
            head = Head(self.config, t.size, stats.each or stats.mean, stats.std, name=name)

        def apply(features: Array) -> Array:
            y: Array = head(features, wide, deterministic, text)
            y = y[:, 0] if t.kind in ("binary", "regression") else y
            return bounded(y, t.low, t.high, stats) if t.kind == "regression" else y

        return apply

    def _start(self, t: TaskSpec) -> LabelStats:
        """The label's statistics; of "esmm", those of the factor that the head stands for."""
        stats = self.labels.get(t.name, LabelStats())
        if self.config.trunk != "esmm" or t.name not in self.config.chain[1:]:
            return stats
        log_odds = {name: s.mean for name, s in self.labels.items()}
        return replace(stats, mean=conditional_starts(self.config.chain, log_odds)[t.name])

    def _similarity(self, t: TaskSpec, rep: Representation, deterministic: bool) -> Array:
        """A logit [B] of two texts, or low + (high - low) sigmoid(it)."""
        if "target_text" not in rep:
            raise UserError(f"task {t.name!r}: kind 'similarity' needs texts (encoder.folder)")
        one, start, name = rep["target_text"], self.labels.get(t.name, LabelStats()).mean, t.name
        if t.how == "cosine":
            y = CosineHead(start, name=f"head_{name}")(one, rep["other_text"])
        else:
            y = Head(self.config, 1, start, name=f"head_{name}")(one, None, deterministic)[:, 0]
        if t.low is None or t.high is None:
            return y
        return t.low + (t.high - t.low) * jax.nn.sigmoid(y)
