"""The chain gather -> encode -> represent -> predict on small tables with every kind of column."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import job as jobs
from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.errors import UserError
from mtl_jax.core.rng import key_for
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import map_by_path, paths
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.plan import spread
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.model import Model
from mtl_jax.nn.towers import PENALTIES
from mtl_jax.tasks.task import loss_sums
from mtl_jax.tasks.three_part import three_part
from mtl_jax.train.config import OptimConfig, TrainConfig
from worlds import small_data, write_encoder

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROWS = 16
# The results of unoptimised code are as good here.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def data(folder):
    write_encoder(folder / "encoder")
    return small_data(folder)


@pytest.fixture(scope="module")
def make(data, folder):
    """make(train_layers, **model options) -> a Job over the small data."""

    def build(train_layers=0, encoder=True, **model):
        tasks = (
            TaskSpec("click", "binary", "click"),
            TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
            TaskSpec("next_item", "retrieval", "click", weight=0.2),
        )
        schema = data.schema
        options = {
            "width": 8,
            "user_heads": 2,
            "ridge_heads": 2,
            "ridge_width": 3,
            "trunk_widths": (8,),
            "head_width": 4,
        } | model
        config = Config(
            tasks=three_part(*tasks, lam=0.1, mu=0.2, categories=schema.n_categories),
            encoder=EncoderChoice(
                str(folder / "encoder") if encoder else "",
                train_layers,
                row_tokens=24,
                history_tokens=14,
                cache=str(folder / "cache"),
            ),
            batch=BatchConfig(size=ROWS, history=4, negatives=3),
            model=ModelConfig(**options),
            optim=OptimConfig(learning_rate=0.01, warmup=0, rates=(("^encoder/", 1.0),)),
            train=TrainConfig(steps=20),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "prepare_data", lambda config, workdir: data)
            return jobs.open_job(config, folder)

    return build


@pytest.fixture(scope="module")
def pooled(make):
    return make()


@pytest.fixture(scope="module")
def start(pooled):
    """Random parameters without a zero among them, and tables."""
    return drawn_state(pooled)


def drawn_state(job):
    rng = np.random.default_rng(0)

    def drawn(path, x):
        near = 1.0 if path.endswith("scale") else 0.0
        return jnp.asarray(rng.normal(near, 0.3, x.shape), jnp.float32)

    shapes = jax.eval_shape(job.run().create)
    return map_by_path(drawn, shapes.params), map_by_path(drawn, shapes.tables)


def batch_of(job, index):
    """The events `index` as one evaluation batch."""
    rows = job.assembler.event_rows(index)
    none = [np.zeros(0, np.int32)]
    shape = job.assembler.shape_of(rows, none, (1, 1))
    roomy = replace(shape, table=20, users=8, items=20, packed=shape.packed and 8)
    return job.assembler.batch(rows, none, spread(roomy, 1), train=False)


@pytest.fixture(scope="module")
def batch(pooled, data):
    """Later events, some of users or items never trained on, the first without a history."""
    split, hist = np.asarray(data.events["split"]), np.asarray(data.events["hist_stop"])
    empty = np.flatnonzero(hist == np.asarray(data.events["hist_start"]))[:1]
    later = np.flatnonzero(split > 0)[: ROWS - 1]
    found = batch_of(pooled, np.concatenate([empty, later]))
    found["items/warm"][0, 0, 1:5] = 0  # as if they had never been trained on
    found["u_warm"][0, 0, ::3] = 0
    return found


@pytest.fixture(scope="module")
def run(pooled, start):
    """run(batch, params, tables) -> {name: array} of predictions, scores and gate."""
    forward = jax.jit(pooled.evaluator()._forward, compiler_options=FAST)

    def call(batch, params=None, tables=None):
        params, tables = params or start[0], tables or start[1]
        out = forward(params, tables, batch)
        flat, _ = jax.tree_util.tree_flatten_with_path(out)
        return {jax.tree_util.keystr(p): np.asarray(x)[0] for p, x in flat}

    return call


PER_ROW = ("['tasks']['click']", "['gate']")


def differ(a, b, atol=1e-5):
    return {k for k in a if not np.allclose(a[k], b[k], atol=atol)}


def moved(batch, name, where, by=1.0):
    value = batch[name].copy()
    value[where] = value[where] + by
    return {**batch, name: value.astype(batch[name].dtype)}


def test_the_id_of_what_was_never_trained_on_has_no_influence(run, batch, start):
    tables, plain = start[1], run(batch)
    noise = jnp.asarray(np.random.default_rng(3).normal(0, 3, (4, 10)), jnp.float32)
    items, users = batch["items/id"][0, 0], batch["uniq/user"][0]
    cold = items[1:5]
    other = {**tables, "item": tables["item"].at[cold].add(noise)}
    assert not differ(plain, run(batch, tables=other))
    cold_user = np.unique(users[batch["user"][0, 0, ::3]])
    warm_user = np.unique(users[np.delete(batch["user"][0, 0], np.s_[::3])])
    only = np.setdiff1d(cold_user, warm_user)
    other = {**tables, "user": tables["user"].at[only].add(noise[:1, :9])}
    assert not differ(plain, run(batch, tables=other))
    for table, warm in (("item", items[6:9]), ("user", warm_user)):
        other = {**tables, table: tables[table].at[warm].add(noise[:1, : tables[table].shape[1]])}
        assert "['tasks']['click']" in differ(plain, run(batch, tables=other)), table


def test_padding_of_the_history_has_no_influence_and_an_empty_one_is_finite(run, batch):
    plain = run(batch)
    padding = batch["hist"] == 0
    assert padding[0, 0, 0].all()
    assert not padding.all()
    assert all(np.isfinite(x).all() for x in plain.values())
    other = moved(moved(batch, "hist_age", padding, 5.0), "hist_type", padding)
    assert not differ(plain, run(other))
    assert differ(plain, run(moved(batch, "hist_age", ~padding, 5.0)))


def test_the_order_of_the_item_table_is_no_matter(run, batch):
    size = batch["items/id"].shape[-1]
    order = np.concatenate([[0], 1 + np.random.default_rng(1).permutation(size - 1)])
    place = np.argsort(order)
    table = {k for k in batch if k.startswith("items/") or k == "text/vectors"}
    mixed = {k: v[:, :, order] if k in table else v for k, v in batch.items()}
    mixed |= {k: place[batch[k]].astype(np.int32) for k in ("item", "hist")}
    plain, other = run(batch), run(mixed)
    for k in plain:
        back = other[k][place] if plain[k].shape[0] == size else other[k]
        np.testing.assert_allclose(back, plain[k], atol=1e-5, err_msg=k)
    assert not np.array_equal(mixed["items/id"], batch["items/id"])


def test_rows_know_nothing_of_each_other(run, batch):
    plain = run(batch)
    for name, by in (("ctx/hour_of_week", 6.0), ("stats_user", 1.0), ("u_dense", 1.0)):
        other = run(moved(batch, name, np.s_[0, 0, 4], by))
        for k in PER_ROW:
            changed = np.abs(other[k] - plain[k]).reshape(ROWS, -1).max(1) > 1e-6
            assert changed.tolist() == [r == 4 for r in range(ROWS)], (name, k)


@pytest.mark.parametrize(
    "name",
    ["ctx/hour_of_year", "ctx/device", "stats_item", "stats_cross", "u_cat/gender", "hist_type"],
)
def test_every_input_counts(run, batch, name):
    where = np.s_[0, 0, 3] if name != "hist_type" else np.s_[0, 0, :, 0]
    other = batch[name].copy()
    other[where] = 0 if np.issubdtype(other.dtype, np.integer) else other[where] + 500.0
    if np.array_equal(other, batch[name]):
        other[where] = 1
    assert "['tasks']['click']" in differ(run(batch), run({**batch, name: other}), atol=1e-6)


@pytest.mark.parametrize("name", ["items/cat_brand", "items/tags", "items/dense", "text/vectors"])
def test_every_part_of_an_item_counts(run, batch, name):
    target = batch["item"][0, 0, 3]
    other = batch[name].copy()
    other[0, 0, target] = 1 - (other[0, 0, target] > 0)
    assert "['tasks']['click']" in differ(run(batch), run({**batch, name: other}), atol=1e-6)


def test_the_gate_is_readable_and_sums_to_1(run, batch):
    gate = run(batch)["['gate']"]
    assert gate.shape == (ROWS, 4)
    np.testing.assert_allclose(gate.sum(1), 1.0, rtol=1e-5)
    assert (gate > 0).all()


def test_predictions_lie_where_they_must(run, batch):
    out = run(batch)
    click, rating = out["['tasks']['click']"], out["['tasks']['rating']"]
    assert ((click > 0) & (click < 1)).all()
    assert ((rating >= 1) & (rating <= 5)).all()
    np.testing.assert_allclose(out["['tasks']['interest']"].sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(out["['tasks']['content']"].sum(1), 1.0, rtol=1e-5)


def test_dropping_all_ids_is_as_if_nothing_had_been_trained_on(make, start, batch):
    job = make(id_dropout=1.0, dropout=0.0)
    params, tables = start
    part = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
    cold = {**part, **{k: np.zeros_like(part[k]) for k in ("items/warm", "u_warm")}}

    @partial(jax.jit, compiler_options=FAST)
    def forward(b, key):
        rows = job.model.gather(tables, b)
        one, two = (job.model.forward(params, rows, b, key, train)[1] for train in (True, False))
        return one, two

    trained, _ = forward(part, jax.random.PRNGKey(0))
    _, evaluated = forward(cold, jax.random.PRNGKey(0))
    for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(evaluated), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("train_layers", "atol"), [(-1, 2e-5), (1, 3e-2), (2, 3e-2)])
def test_an_encoder_that_trains_gives_what_the_cache_gives(
    make, pooled, run, start, data, train_layers, atol
):
    index = np.flatnonzero(np.asarray(data.events["split"]) > 0)[:ROWS]
    cached = run(batch_of(pooled, index))
    job = make(train_layers)
    params = {**start[0], "encoder": job.trainable_encoder}
    packed = batch_of(job, index)
    assert "text/vectors" not in packed
    assert ("text/states" in packed) == (train_layers > 0)
    out = jax.jit(job.evaluator()._forward, compiler_options=FAST)(params, start[1], packed)
    flat, _ = jax.tree_util.tree_flatten_with_path(out)
    found = {jax.tree_util.keystr(p): np.asarray(x)[0] for p, x in flat}
    assert not differ(cached, found, atol=atol)  # states are kept in bfloat16


def test_full_fine_tuning_with_the_history_as_text_moves_every_part_of_the_encoder(make):
    small = {"user_layers": 0, "target_attention": False, "head_width": 0, "trunk_widths": ()}
    job = make(-1, history_text=True, id_dropout=0.0, dropout=0.0, **small)
    sgd = replace(job.config.optim, name="sgd")  # fewer operations to compile than Adam
    run = replace(job, config=replace(job.config, optim=sgd)).run()
    state = run.create()
    before = jax.tree.map(np.asarray, state.params)
    step, batch = jax.jit(run.step, compiler_options=FAST), job.stream.batch(0)
    losses = []
    for _ in range(5):
        state, metrics = step(state, batch)
        assert metrics["finite"]
        losses.append(float(np.sum(metrics["loss_sum"] / metrics["count"] * metrics["weights"])))
    assert losses[-1] < losses[0]
    still = [
        path
        for path, a, b in zip(
            paths(before), jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True
        )
        if path.startswith("encoder/") and np.array_equal(a, b)
    ]
    assert [p for p in still if "pooler" not in p and not p.endswith("key/bias")] == []


def test_only_the_top_layer_is_a_parameter_where_only_it_trains(make):
    names = set(make(1).trainable_encoder)
    assert "layer_1" in names
    assert not names & {"layer_0", "embeddings"}


def test_the_history_as_text_needs_an_encoder_that_trains(make):
    for options in ({"train_layers": 0}, {"train_layers": 1}, {"encoder": False}):
        with pytest.raises(UserError, match="history_text needs an encoder"):
            make(history_text=True, **options)


def test_attention_reads_the_latest_events_and_the_ridge_all_of_them(make, batch):
    old = batch["hist"].copy()
    old[..., 3] = np.where(old[..., 3] > 0, old[..., 3] % (old.max() - 1) + 1, 0)
    assert (old != batch["hist"]).any()
    first = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
    for heads, counts in ((0, False), (2, True)):
        job = make(attended=2, ridge_heads=heads)
        params, tables = drawn_state(job)
        rep = jax.jit(
            lambda b, j=job, p=params, t=tables: j.model.forward(
                p, j.model.gather(t, b), b, jax.random.PRNGKey(0), False
            )[0]["user"],
            compiler_options=FAST,
        )
        moved_by = np.abs(rep(first) - rep({**first, "hist": old[0]})).max()
        assert (moved_by > 1e-4) == counts


def test_with_plain_inputs_no_event_label_trains_the_towers(make, batch):
    job = make(inputs="plain", wide_text=True)
    params, tables = drawn_state(job)
    part = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
    rows = job.model.gather(tables, part)

    def click(params):
        key = jax.random.PRNGKey(0)
        return job.model.forward(params, rows, part, key, train=False)[1]["click"].sum()

    grads = jax.jit(jax.grad(click), compiler_options=FAST)(params)
    for path, g in zip(paths(grads), jax.tree.leaves(grads), strict=True):
        if path.startswith("towers/"):
            assert (np.asarray(g) == 0).all(), path
    head = grads["heads"]["head_click"]
    assert np.abs(head["text"]["kernel"]).max() > 0
    assert np.abs(head["wide"]["kernel"]).max() > 0
    # statistics, the item's tags and their number, its numbers; the wide path the scores too
    schema = job.data.schema
    plain = len(schema.statistics) + len(schema.item_dense)
    plain += schema.n_tags if schema.n_tags else 0
    assert params["heads"]["trunk"]["layer_0"]["kernel"].shape[0] == plain
    assert head["wide"]["kernel"].shape[0] == plain + 5


def test_a_trunks_penalty_is_added_to_the_mean_loss_of_its_tasks_in_the_training_step(make):
    small = {"user_layers": 0, "target_attention": False, "head_width": 0, "ridge_heads": 0}
    job = make(encoder=False, trunk="dselect_k", experts=4, entropy_weight=0.5, **small)
    sgd = replace(job.config.optim, name="sgd")  # fewer operations to compile than Adam
    run = replace(job, config=replace(job.config, optim=sgd)).run()
    state, batch, model = run.create(), job.stream.batch(0), job.model
    part = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}

    def without(state):
        """Mean losses of the same forward pass, the penalties left out."""
        rows = model.gather(state.tables, part)
        key = key_for(state.key, "dropout", state.step)
        _, out = model.forward(state.params, rows, part, key, True)
        sums, counts = loss_sums(model.tasks, {**out, PENALTIES: {}}, part)
        return sums / counts

    plain = jax.jit(without, compiler_options=FAST)(state)
    _, metrics = jax.jit(run.step, compiler_options=FAST)(state, batch)
    assert metrics["finite"]
    more = metrics["loss_sum"] / metrics["count"] - plain
    # two selectors that start near an even choice of four experts, log 4 at most
    names, most = [t.name for t in model.tasks], 0.5 * 2 * np.log(4)
    for name, x in zip(names, more, strict=True):
        assert 0.9 * most < x <= most if name in ("click", "rating") else abs(x) < 1e-5, name
    params, tables = drawn_state(job)
    out = jax.eval_shape(job.evaluator()._forward, params, tables, batch_of(job, np.arange(ROWS)))
    assert set(out["tasks"]) == set(names)


def test_a_step_is_compiled_for_the_tokens_that_go_through_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtl_jax.nn.model.for_long_products", lambda rows: {"rows": str(rows)})

    def options(rows: int, cut: int) -> Any:
        model: Any = SimpleNamespace(encoder=SimpleNamespace(layers=6), cut=cut)
        return Model.compiler_options(model, {"text/ids": np.zeros((2, 3, rows, 64))})

    assert options(128, 5) == {"rows": "8192"}
    assert options(511, 5) == {"rows": "32704"}
    assert options(512, 5) is None, "by slices"
    assert options(128, 0) is None, "six layers"
    frozen: Any = SimpleNamespace(encoder=None, cut=0)
    assert Model.compiler_options(frozen, {}) is None
