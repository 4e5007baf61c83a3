"""Users hashed to rows of their table: the hash, the report, batches and requests."""

import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.batch import Shape
from mtl_jax.data.hashing import collisions, hashed_rows
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import open_prepared
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.model import Model
from mtl_jax.serve.request import Request, resolve, rows_for
from tiny_config import TASKS, get_config
from worlds import assembler_of, world_data

BUCKETS = 24


@pytest.fixture(scope="module")
def hashed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hashed") / "prepared"
    return open_prepared(
        prepare(replace(get_config().data, prepared=str(folder), hash_users=BUCKETS))
    )


def test_golden_values_that_no_version_may_change():
    # A trained table is read by them: never update.
    ids = ["", "196", "u1", "Zoë", "9223372036854775807"]
    assert hashed_rows(ids, 1000).tolist() == [0, 655, 423, 379, 463]
    assert hashed_rows(ids, 7).tolist() == [0, 1, 6, 5, 6]
    again = "from mtl_jax.data.hashing import *; print(buckets_of(['196', 'u1'], 1000).tolist())"
    done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[654, 422]", "in another process, with another salt"


def test_ids_spread_as_by_chance():
    rows = hashed_rows([str(n) for n in range(20_000)], 4096)
    counts = np.bincount(rows, minlength=4097)[1:]
    assert counts.min() > 0
    assert counts.max() < 3 * counts.mean()


def test_the_report_counts_collisions(hashed):
    assert collisions(np.array([3, 5, 3, 0, 1]), 8).startswith(
        "users are hashed to 8 rows: 4 users with training rows have 3 of them, 2 (50.0%) share"
    )
    warm = np.asarray(hashed.users["warm"])
    rows = np.asarray(hashed.users["row"])[warm]
    share = sum((rows == r).sum() > 1 for r in rows)
    text = (hashed.folder / "report.md").read_text()
    assert f"{len(rows)} users with training rows have {len(np.unique(rows))} of them" in text
    assert f" {share} (" in text


def test_the_table_is_as_long_as_its_buckets(hashed):
    model = Model(ModelConfig(width=8), hashed.schema, TASKS)
    tables = jax.eval_shape(lambda: model.init_tables(jax.random.PRNGKey(0)))
    assert tables["user"].shape == (BUCKETS + 1, 9)
    assert tables["item"].shape[0] == hashed.schema.n_items
    assert hashed.schema.n_users > BUCKETS


def batch_of(data, rows, size):
    none = [np.zeros(0, np.int32)]
    assembler = assembler_of(data)
    found = assembler.shape_of(rows, none, (1, 1))
    return assembler.batch(rows, none, Shape(found.table, found.users, found.items), train=False)


def test_a_batch_names_the_rows_of_its_users(hashed, shared_folder):
    index = np.arange(0, 2000, 7)
    rows = assembler_of(hashed).event_rows(index)
    batch = batch_of(hashed, rows, len(index))
    row = np.asarray(hashed.users["row"])[rows.user]
    np.testing.assert_array_equal(batch["uniq/user"][0][batch["user"][0, 0]], row)
    ids = np.array(hashed.vocabulary("users").values)[rows.user]
    np.testing.assert_array_equal(row, hashed_rows(ids, BUCKETS))
    warm = np.asarray(hashed.users["warm"])
    trained = np.isin(row, np.asarray(hashed.users["row"])[warm])
    np.testing.assert_array_equal(batch["u_warm"][0, 0], trained)
    assert (trained & ~warm[rows.user]).any(), "a stranger with another's row"
    # What is warm and what the log knows of the user are as without hashing.
    plain = world_data(shared_folder)
    np.testing.assert_array_equal(warm, plain.users["warm"])
    other = batch_of(plain, assembler_of(plain).event_rows(index), len(index))
    for key in ("stats_user", "hist", "items/row", "uniq/item"):
        np.testing.assert_array_equal(batch[key], other[key])


def test_an_unknown_user_has_the_row_of_its_hash(hashed):
    trained = hashed.trained_user_rows
    names = [f"stranger {n}" for n in range(40)]
    for name, row in zip(names, hashed_rows(names, BUCKETS), strict=True):
        known = resolve(hashed, Request(name))
        assert (known.user, known.user_row) == (0, row)
        batch = batch_of(hashed, rows_for(hashed, known, np.array([1, 2]), 4), 2)
        assert (batch["uniq/user"][0][batch["user"][0, 0]] == row).all()
        assert (batch["u_warm"] == trained[row]).all()
    someone = hashed.vocabulary("users").values[3]
    assert resolve(hashed, Request(someone)).user_row == hashed.users["row"][3]
    assert resolve(hashed, Request("")).user_row == 0
    assert not trained[0]


def test_fewer_than_no_rows_are_refused(tmp_path):
    config = replace(get_config().data, prepared=str(tmp_path / "p"), hash_users=-1)
    with pytest.raises(UserError, match=r"data\.hash_users=-1"):
        prepare(config)
