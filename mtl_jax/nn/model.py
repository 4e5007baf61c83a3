"""The model as a chain of pure functions: gather -> encode -> represent -> predict.

Batch arrays are [S, ...], S data shards. The modules of `towers.py` are written for one shard and
vmapped over S; tables are gathered once for all shards.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp

from mtl_jax.core.placement import by_shard, whole
from mtl_jax.core.rng import key_for
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, Batch, HostArray, Params
from mtl_jax.core.xla import for_long_products
from mtl_jax.data.schema import Schema
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.encoder import Encoder, EncoderConfig, is_whole
from mtl_jax.nn.pooling import pool, pool_rows
from mtl_jax.nn.towers import Heads, LabelStats, Outputs, Representation, Towers
from mtl_jax.nn.trunks import reached_heads


@dataclass(frozen=True)
class Model:
    """What is fixed at compile time; parameters and tables are passed to every function.

    encoder: None when pooled text vectors come with the batch (frozen encoder, or no text).
    cut:     number of frozen layers below the trained ones; token states of layer `cut` come with
             the batch when it is above 0.
    mu:      global mean of the collaborative score.
    unseen:  see `Towers`; None leaves statistics alone when an id is dropped.
    """

    config: ModelConfig
    schema: Schema
    tasks: tuple[TaskSpec, ...]
    labels: Mapping[str, LabelStats] = field(default_factory=dict)
    encoder: EncoderConfig | None = None
    pooling: str = "mean"
    cut: int = 0
    mu: float = 0.0
    unseen: tuple[float, ...] | None = None

    @property
    def reached_heads(self) -> tuple[str, ...]:
        """Tasks whose heads are not theirs alone, see `trunks.reached_heads`."""
        return reached_heads(self.config)

    def compiler_options(self, batch: Mapping[str, Any]) -> dict[str, str | bool] | None:
        """What a step for such a batch is compiled with (`mtl_jax.core.xla`), if anything."""
        if self.encoder is None:
            return None
        tokens = math.prod(batch["text/ids"].shape[-2:])
        at_once = is_whole(tokens, self.encoder.layers - self.cut)
        return for_long_products(tokens) if at_once else None

    def init(self, key: Array, batch: Batch, encoder: Params | None) -> dict[str, Params]:
        """Parameters for a batch of one accumulation slice; `encoder` is the trainable part."""
        params: dict[str, Params] = {}
        if self.encoder is not None:
            assert encoder is not None
            params["encoder"] = encoder
        one = _first_shard(batch)
        text = self._text_of_shard(params, one, key, False)
        history_text = self._history_text(params, one, key, False)
        rows = self.gather(self.init_tables(key), batch)
        users, items = _rows_of_shard(rows, one)
        keys = {"params": key_for(key, "params"), "dropout": key_for(key, "dropout")}
        rep, variables = self._towers().init_with_output(
            keys, users, items, text, history_text, one, True
        )
        params["towers"] = variables["params"]
        params["heads"] = self._heads().init(keys, rep, True)["params"]
        return params

    def init_tables(self, key: Array, item_log_prior: HostArray | None = None) -> dict[str, Array]:
        """user [user_rows, D + 1] and item [n_items, D + 2]: vector, b, and (items) the bias of
        retrieval, started at the item's log share of training positives."""
        d, s = self.config.width, self.schema
        user = 0.02 * jax.random.normal(key_for(key, "table_user"), (s.user_rows, d + 1))
        item = 0.02 * jax.random.normal(key_for(key, "table_item"), (s.n_items, d + 2))
        prior = jnp.zeros(s.n_items) if item_log_prior is None else jnp.asarray(item_log_prior)
        return {
            "user": user.at[:, d].set(0.0),
            "item": item.at[:, d].set(0.0).at[:, d + 1].set(prior),
        }

    def gather(self, tables: Params, batch: Batch) -> dict[str, Array]:
        """The batch's distinct rows of each table [R, .]; ids past the end (padding) give zeros."""
        return {
            name: whole(
                table.at[whole(batch[f"uniq/{name}"].reshape(-1))].get(mode="fill", fill_value=0)
            )
            for name, table in tables.items()
        }

    def encode(self, params: Params, batch: Batch, key: Array, train: bool) -> Array | None:
        """Text vectors [S, U, Dt] of the item tables, from the cache or through the encoder."""
        if self.encoder is None:
            return batch.get("text/vectors")
        keys = jax.random.split(key, _shards(batch))
        vectors: Array = per_shard(
            lambda b, k: self._text_of_shard(params, b, k, train), _shard_part(batch), keys
        )
        return by_shard(vectors)

    def represent(
        self,
        params: Params,
        rows: Mapping[str, Array],
        text: Array | None,
        batch: Batch,
        key: Array,
        train: bool,
    ) -> Representation:
        """All that tasks share, [S, ...]: z [S, B, Dz], user [S, B, D], items [S, U, D], ..."""
        towers = self._towers()

        def one(b: Batch, t: Array | None, k: Array) -> Representation:
            users, items = _rows_of_shard(rows, b)
            history_text = self._history_text(params, b, key_for(k, "history_text"), train)
            found: Any = towers.apply(
                {"params": params["towers"]},
                users,
                items,
                t,
                history_text,
                b,
                not train,
                rngs={"dropout": k},
            )
            return found

        keys = jax.random.split(key, _shards(batch))
        found: Representation = per_shard(one, _shard_part(batch), text, keys)
        return cast(Representation, by_shard(found))

    def predict(
        self, params: Params, rep: Representation, batch: Batch, key: Array, train: bool
    ) -> Outputs:
        """Outputs per task, [S, B] or [S, B, C]; retrieval gives query, key and bias."""
        heads = self._heads()

        def one(r: Representation, k: Array) -> Outputs:
            out: Any = heads.apply({"params": params["heads"]}, r, not train, rngs={"dropout": k})
            return out

        found: Outputs = per_shard(one, rep, jax.random.split(key, _shards(batch)))
        return cast(Outputs, by_shard(found))

    def shared(
        self, params: Params, rows: Mapping[str, Array], batch: Batch, key: Array, train: bool
    ) -> Representation:
        """`encode` and `represent`: all of the chain that no task owns."""
        text = self.encode(params, batch, key_for(key, "encode"), train)
        return self.represent(params, rows, text, batch, key_for(key, "represent"), train)

    def forward(
        self, params: Params, rows: Mapping[str, Array], batch: Batch, key: Array, train: bool
    ) -> tuple[Representation, Outputs]:
        """The whole chain after `gather`."""
        rep = self.shared(params, rows, batch, key, train)
        return rep, self.predict(params, rep, batch, key_for(key, "predict"), train)

    def _towers(self) -> Towers:
        return Towers(self.config, self.schema, self.mu, self.unseen)

    def _heads(self) -> Heads:
        return Heads(self.config, self.tasks, self.labels)

    def _text_of_shard(self, params: Params, batch: Batch, key: Array, train: bool) -> Array | None:
        if self.encoder is None:
            return batch.get("text/vectors")
        hidden: Any = Encoder(self.encoder).apply(
            {"params": params["encoder"]},
            batch["text/ids"],
            token_type_ids=batch.get("text/types"),
            segment_ids=batch["text/segments"],
            position_ids=batch["text/positions"],
            start_layer=self.cut,
            hidden=batch.get("text/states"),
            deterministic=not train,
            rngs={"dropout": key},
        )
        n_texts = batch["items/id"].shape[0]
        return pool(
            hidden,
            batch["text/owner"],
            batch["text/positions"],
            n_texts,
            self.pooling,
            params["encoder"].get("pooler"),
        )

    def _history_text(self, params: Params, batch: Batch, key: Array, train: bool) -> Array | None:
        if not self.config.history_text:
            return None
        assert self.encoder is not None
        hidden: Any = Encoder(self.encoder).apply(
            {"params": params["encoder"]},
            batch["history_text/ids"],
            attention_mask=batch["history_text/mask"],
            deterministic=not train,
            rngs={"dropout": key},
        )
        return pool_rows(hidden, batch["history_text/mask"], "mean")


def per_shard(f: Callable[..., Any], *args: Any) -> Any:
    """f vmapped over the leading axis S; one shard is run as it is (XLA compiles it faster)."""
    if jax.tree.leaves(args)[0].shape[0] > 1:
        return jax.vmap(f)(*args)
    one = f(*jax.tree.map(lambda x: x[0], args))
    return jax.tree.map(lambda x: x[None], one)


def _shards(batch: Batch) -> int:
    return int(batch["user"].shape[0])


def _shard_part(batch: Batch) -> Batch:
    return {k: v for k, v in batch.items() if not k.startswith("uniq/")}


def _first_shard(batch: Batch) -> Batch:
    return {k: v[0] for k, v in _shard_part(batch).items()}


def _rows_of_shard(rows: Mapping[str, Array], batch: Batch) -> tuple[Array, Array]:
    # The loader's own places are inside: not to look for others saves a pass over what is taken.
    users = jnp.take(rows["user"], batch["user"], axis=0, mode="clip")
    return users, jnp.take(rows["item"], batch["items/row"], axis=0, mode="clip")
