"""A run whose users are hashed: it learns, touches its buckets' rows only, and serves strangers."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from mtl_jax import job as jobs
from mtl_jax.data.hashing import hashed_rows
from mtl_jax.serve.recommend import Recommender
from mtl_jax.serve.request import Request
from mtl_jax.train.evaluation import evaluate
from tiny_config import get_config

pytestmark = pytest.mark.usefixtures("quick_compilation")
BUCKETS = 40
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """(job, state, losses of each step, the table of users before)."""
    config = get_config()
    config = replace(
        config,
        tasks=config.tasks[:1],
        data=replace(config.data, hash_users=BUCKETS),
        optim=replace(config.optim, table_optimiser="adagrad", table_rate=10.0),
        train=replace(config.train, steps=60),
    )
    folder: Path = tmp_path_factory.mktemp("hashed")
    job = jobs.open_job(config, folder)
    run = job.run()
    state, losses = run.create(), []
    first = np.asarray(state.tables["user"])
    step = jax.jit(run.step, compiler_options=FAST)
    for n in range(60):
        state, told = step(state, job.stream.batch(n))
        losses.append(float(told["loss_sum"][0] / told["count"][0]))
    return job, state, losses, first


def test_it_learns_and_moves_the_rows_of_its_users_and_no_others(trained):
    job, state, losses, first = trained
    assert np.mean(losses[-10:]) < 0.97 * np.mean(losses[:10])
    assert first.shape == (BUCKETS + 1, 9)
    moved = (np.asarray(state.tables["user"]) != first).any(1)
    assert moved[job.data.trained_user_rows].any()
    assert not moved[~job.data.trained_user_rows].any()
    assert (np.asarray(state.table_opt["user"]["sum"]) >= 0).all()


def test_a_stranger_is_served_from_its_bucket(trained):
    job, state, _, _ = trained
    make = Recommender(job.evaluator(), state.params, state.tables, job.config.rank)
    names = [f"stranger {n}" for n in range(30)]
    rows = hashed_rows(names, BUCKETS)
    row = next(r for r in rows if (rows == r).sum() > 1 and job.data.trained_user_rows[r])
    one, same = np.flatnonzero(rows == row)[:2]
    other = next(i for i, r in enumerate(rows) if r != row and job.data.trained_user_rows[r])
    found = [make.recommend(Request(names[i]), 5) for i in (one, same, other)]
    assert found[0] == found[1]
    assert [x["score"] for x in found[0]] != [x["score"] for x in found[2]]


def test_strangers_stay_cold_in_the_metrics(trained):
    job, state, _, _ = trained
    results, _, index = evaluate(job.evaluator(), state.params, state.tables, "valid", 0)
    cold = ~np.asarray(job.data.users["warm"])[job.data.events["user"][index]]
    assert cold.any()
    counted = results["click"]["cold_user"]["log_loss"]["rows"]
    assert counted == cold.sum()
