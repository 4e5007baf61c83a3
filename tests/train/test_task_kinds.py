"""Every kind of task from prepared tables to metrics, in one model, frozen and training encoder."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import polars as pl
import pytest

from mtl_jax import job as jobs
from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config, from_dict, to_dict
from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import paths
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.pipeline import rows_of
from mtl_jax.data.plan import spread
from mtl_jax.data.schema import Label
from mtl_jax.metrics.registry import METRICS
from mtl_jax.nn.config import ModelConfig
from mtl_jax.serve.config import RankConfig
from mtl_jax.serve.recommend import Recommender
from mtl_jax.serve.request import Request
from mtl_jax.train.config import OptimConfig, TrainConfig
from mtl_jax.train.evaluation import evaluate
from worlds import small_data, write_encoder

pytestmark = pytest.mark.usefixtures("quick_compilation")
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TASKS = (
    TaskSpec("both", "multilabel", labels=("click", "buy"), balanced=True),
    TaskSpec("stars", "ordinal", "rating", low=1.0, high=5.0, gamma=0.5),
    TaskSpec("doubt", "binary", "doubt", smooth=0.05),
    TaskSpec("same", "similarity", "same"),
    TaskSpec("close", "similarity", "rating", low=1.0, high=5.0),
    TaskSpec("pair", "similarity", "click", how="cross"),
)
KINDS = {t.name: t.kind for t in TASKS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def data(folder):
    """Texts are pairs. Every 3rd row has no other item; `same`: its description is the row's."""
    write_encoder(folder / "encoder")
    number = pl.int_range(pl.len())
    item = pl.col("item").str.slice(1).cast(pl.Int64)
    other = (number * 7) % 13
    return small_data(
        folder,
        labels=(Label("doubt", "value", 0.0, 1.0), Label("same", "binary")),
        pair=True,
        doubt=pl.when(number % 5 == 0).then(None).otherwise((number % 11) / 10.0),
        other=pl.when(number % 3 == 0).then(None).otherwise(pl.format("i{}", other)),
        same=(item % 3 == other % 3).cast(pl.Float64),
    )


@pytest.fixture(scope="module")
def make(data, folder):
    def build(train_layers=0, tasks=TASKS, encoder=True):
        config = Config(
            tasks=tasks,
            encoder=EncoderChoice(
                str(folder / "encoder") if encoder else "",
                train_layers,
                row_tokens=24,
                cache=str(folder / "cache"),
            ),
            batch=BatchConfig(size=64, history=2),
            model=ModelConfig(
                width=4,
                user_layers=0,
                user_heads=2,
                target_attention=False,
                trunk_widths=(8,),
                head_width=0,
                dropout=0.0,
            ),
            optim=OptimConfig(name="sgd", learning_rate=0.05, warmup=0),
            train=TrainConfig(steps=30, eval_batch=64),
        )
        assert from_dict(to_dict(config)) == config
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "prepare_data", lambda config, workdir: data)
            return jobs.open_job(config, folder)

    return build


@pytest.fixture(scope="module")
def job(make):
    return make()


@pytest.fixture(scope="module")
def evaluator(job):
    return job.evaluator()


@pytest.fixture(scope="module")
def trained(job):
    """(losses of each task by step, state) of some steps over one batch."""
    run = job.run()
    state, step = run.create(), jax.jit(run.step, compiler_options=FAST)
    batch, losses = job.stream.batch(0), []
    for _ in range(30):
        state, metrics = step(state, batch)
        assert metrics["finite"]
        losses.append(np.asarray(metrics["loss_sum"] / metrics["count"]))
    return np.stack(losses), state


def test_every_loss_falls(trained):
    losses, _ = trained
    for task, first, last in zip(TASKS, losses[0], losses[-1], strict=True):
        assert last < first - 1e-3, task.name


def test_heads_start_at_the_shares_of_the_training_labels(job, evaluator):
    index = np.flatnonzero(np.asarray(job.data.events["split"]) == 0)
    label = lambda name: np.asarray(job.data.events[f"label_{name}"])[index]  # noqa: E731
    ratings = label("rating")
    share = np.bincount(ratings[np.isfinite(ratings)].astype(int), minlength=6)[1:]
    start, below = np.asarray(job.model.labels["stars"].each), np.cumsum(share / share.sum())
    np.testing.assert_allclose(1 / (1 + np.exp(-start)), below[:-1], atol=0.01)
    state = job.run().create()
    heads = dict(state.params["heads"])
    for path in (("head_both", "out"), ("head_stars", "score", "out"), ("head_doubt", "out")):
        dense = heads
        for name in path:
            dense[name] = dict(dense[name])
            dense = dense[name]
        dense["kernel"] = 0 * dense["kernel"]
    found = evaluator.predict({**state.params, "heads": heads}, state.tables, index)
    rates = [np.nanmean(label("click")), np.nanmean(label("buy"))]
    np.testing.assert_allclose(found["both"], np.tile(rates, (len(index), 1)), rtol=1e-4)
    np.testing.assert_allclose(found["stars"][0], share / share.sum(), atol=0.01)
    np.testing.assert_allclose(found["doubt"], np.nanmean(label("doubt")), rtol=1e-4)
    pairs = np.asarray(job.data.events["other"])[index] > 0
    said = found["same"][pairs]
    logit = np.log(said / (1 - said))
    assert abs(logit.mean() - job.model.labels["same"].mean) < 0.3
    assert 0.3 < logit.std() < 1.4


def test_the_other_item_stands_in_its_shards_table(job):
    index = np.arange(0, 128)
    rows, parts = job.assembler.event_rows(index), (2, 2)
    none = [np.zeros(0, np.int32)] * 4
    shape = spread(job.assembler.shape_of(rows, none, parts), 2)
    batch = job.assembler.batch(rows, none, shape, parts)
    found = np.take_along_axis(batch["items/id"], batch["other"], axis=-1).reshape(-1)
    np.testing.assert_array_equal(found, job.data.events["other"][index])
    assert (found == 0).any()


def test_a_plan_has_room_for_other_items(job):
    small = replace(job.assembler, config=BatchConfig(size=2, history=1))
    stream = replace(job.stream, assembler=small, _orders={})
    for step in range(stream.steps_per_epoch):
        stream.batch(step)


def test_rows_with_one_of_several_labels_are_trained_on(job):
    task = TaskSpec("t", "multilabel", labels=("buy", "rating"))
    index = rows_of(replace(job.assembler, tasks=(task,)), "train")
    buy, rating = (np.asarray(job.data.events[f"label_{n}"]) for n in task.labels)
    some = np.isfinite(buy) | np.isfinite(rating)
    np.testing.assert_array_equal(
        index, np.flatnonzero(some & (np.asarray(job.data.events["split"]) == 0))
    )
    assert (np.isnan(buy[index]) | np.isnan(rating[index])).any()


def test_balanced_weights_come_from_the_training_rows(job):
    rows = np.asarray(job.data.events["split"]) == 0
    buy = np.asarray(job.data.events["label_buy"])[rows]
    known, bought = np.isfinite(buy).sum(), np.nansum(buy)
    found = job.model.tasks[0].class_weights[2:]
    np.testing.assert_allclose(found, [known / (2 * (known - bought)), known / (2 * bought)])
    assert job.assembler.tasks == job.model.tasks


def test_every_metric_of_every_kind_is_there(job, trained, evaluator):
    _, state = trained
    results, predictions, index = evaluate(
        evaluator, state.params, state.tables, "train", replicates=3
    )
    for name, kind in KINDS.items():
        entries = results[name]["all"]
        assert set(entries) == set(METRICS[kind])
        empty = {m for m, e in entries.items() if e["value"] is None}
        assert empty == ({"auc"} if name == "close" else set()), name
    assert predictions["both"].shape == (len(index), 2)
    np.testing.assert_allclose(predictions["stars"].sum(1), 1.0, rtol=1e-5)
    assert ((predictions["close"] >= 1) & (predictions["close"] <= 5)).all()
    paired = np.asarray(job.data.events["other"])[index] > 0
    assert results["same"]["all"]["rmse"]["rows"] == paired.sum() < len(index)
    vectors = np.asarray(job.assembler.text.vectors, np.float64)[1:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    item, other = (np.asarray(job.data.events[n])[index][paired] for n in ("item", "other"))
    cosine = (vectors[item - 1] * vectors[other - 1]).sum(1)
    said = predictions["same"][paired].astype(np.float64)
    line = np.polynomial.Polynomial.fit(cosine, np.log(said / (1 - said)), 1)
    np.testing.assert_allclose(np.log(said / (1 - said)), line(cosine), atol=1e-3)
    assert line.convert().coef[1] > 1
    item, said = np.asarray(job.data.events["item"])[index], predictions["pair"]
    of_item = np.array([said[item == i].mean() for i in range(item.max() + 1) if i in item])
    np.testing.assert_allclose(said, of_item[np.unique(item, return_inverse=True)[1]], rtol=1e-5)
    assert of_item.std() > 1e-3, "texts differ"


def test_levels_rank_and_other_kinds_do_not(trained, evaluator):
    _, state = trained
    rank = Recommender(evaluator, state.params, state.tables, RankConfig())
    found = rank.recommend(Request("u1"), 3)
    assert len(found) == 3
    for item in found:
        assert set(item["predictions"]) == {"stars", "doubt"}
        level, doubt = item["predictions"]["stars"], item["predictions"]["doubt"]
        assert 1 <= level <= 5
        assert np.isclose(item["score"], (level - 1) / 4 + doubt, rtol=1e-4)
    with pytest.raises(UserError, match=r"rank\.weights: no task 'both' ranks"):
        replace(rank, rank=RankConfig(weights=(("both", 1.0),))).recommend(Request("u1"), 3)
    alone = replace(evaluator, model=replace(evaluator.model, tasks=TASKS[:1]))
    with pytest.raises(UserError, match="no task of this model ranks items"):
        replace(rank, evaluator=alone).recommend(Request("u1"), 3)


def test_comparing_trains_every_part_of_an_encoder_that_reads_pairs(make, job):
    frozen = job.assembler.text.vectors
    job = make(-1, tasks=TASKS[3:4])
    run = job.run()
    state, batch = run.create(), job.stream.batch(0)
    part = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
    rows = job.model.gather(state.tables, part)
    key = jax.random.PRNGKey(0)

    @partial(jax.jit, compiler_options=FAST)
    @partial(jax.grad, has_aux=True)
    def grad(encoder):
        params = {**state.params, "encoder": encoder}
        rep, out = job.model.forward(params, rows, part, key, train=False)
        return out["same"].std(), (rep["target_text"], rep["other_text"])

    found, texts = grad(state.params["encoder"])
    for text, name in zip(texts, ("item", "other"), strict=True):
        ids = np.take_along_axis(part["items/id"], part[name], axis=1)
        np.testing.assert_allclose(text, frozen[ids], atol=2e-5)
    assert (np.abs(found["embeddings"]["token_type"]).max(1) > 0).all(), "both texts of a pair"
    leaves = zip(paths(found), jax.tree.leaves(found), strict=True)
    still = [path for path, g in leaves if not np.abs(g).max() > 0]
    assert [p for p in still if "pooler" not in p and not p.endswith("key/bias")] == []


def test_comparing_needs_texts(make):
    with pytest.raises(UserError, match="task 'same': kind 'similarity' needs texts"):
        make(tasks=TASKS[3:4], encoder=False).run()
