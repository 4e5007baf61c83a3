"""A penalty's way into the loss: loss_t = mean over labelled rows + penalty_t."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trunk_cases import B, S

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.towers import PENALTIES
from mtl_jax.tasks.task import label_counts, loss_sums

pytestmark = pytest.mark.usefixtures("quick_compilation")
TASKS = tuple(TaskSpec(name, "regression", name) for name in ("a", "b", "c"))


def case(masks):
    rng = np.random.default_rng(0)
    out = {t.name: jnp.asarray(rng.normal(size=(S, B)), jnp.float32) for t in TASKS}
    batch = {f"label/{t.name}": rng.normal(size=(S, B)).astype(np.float32) for t in TASKS}
    batch |= {f"mask/{t.name}": m for t, m in zip(TASKS, masks, strict=True)}
    return out, batch


def masks():
    some = np.zeros((S, B), np.float32)
    some[0, :3] = some[1, :1] = 1
    return np.ones((S, B), np.float32), some, np.zeros((S, B), np.float32)


def test_a_penalty_is_added_to_the_mean_whatever_the_number_of_rows_and_shards():
    out, batch = case(masks())
    plain, counts = loss_sums(TASKS, out, batch)
    penalties = {t: jnp.full(S, 0.25) for t in ("a", "b", "c")}
    sums, same = loss_sums(TASKS, out | {PENALTIES: penalties}, batch)
    np.testing.assert_array_equal(counts, same)
    means = (sums - plain) / jnp.maximum(counts, 1)
    np.testing.assert_allclose(means, [0.25, 0.25, 0.0], rtol=1e-5)


def test_shards_weigh_by_their_labelled_rows_and_slices_add_up():
    out, batch = case(masks())
    penalties = {"b": jnp.asarray([1.0, 5.0])}
    plain, counts = loss_sums(TASKS, out, batch)
    sums, _ = loss_sums(TASKS, out | {PENALTIES: penalties}, batch)
    np.testing.assert_allclose((sums - plain)[1] / counts[1], (3 * 1.0 + 1 * 5.0) / 4, rtol=1e-5)
    slices = []
    for s in range(S):  # the accumulation of slices: sums over slices by the count of all
        one = {k: v[s : s + 1] for k, v in (out | batch).items()}
        one_out = one | {PENALTIES: {"b": penalties["b"][s : s + 1]}}
        slices.append(loss_sums(TASKS, one_out, one)[0])
    total = label_counts(TASKS, batch)
    np.testing.assert_allclose(
        sum(slices) / jnp.maximum(total, 1), sums / jnp.maximum(total, 1), rtol=1e-5
    )


def test_a_task_without_a_labelled_row_has_no_penalty_and_no_gradient_not_even_of_nan():
    out, batch = case(masks())

    def total(value):
        full = out | {PENALTIES: {"c": jnp.stack([value, value])}}
        return loss_sums(TASKS, full, batch)[0][2]

    for value in (3.0, jnp.nan):
        assert total(jnp.asarray(value)) == 0.0
        assert jax.grad(total)(jnp.asarray(value)) == 0.0
