import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.masked import masked_mean, masked_sum

VALUES = np.array([1.0, np.nan, 3.0, -2.0], np.float32)
MASK = np.array([1.0, 0.0, 1.0, 1.0], np.float32)


def test_sum_and_count_leave_out_what_is_masked():
    total, count = masked_sum(VALUES, MASK)
    assert (float(total), float(count)) == (2.0, 3.0)


def test_mean_and_its_gradient_know_nothing_of_masked_values():
    assert np.isclose(masked_mean(VALUES, MASK), 2 / 3)
    grad = jax.grad(lambda v: masked_mean(v, MASK))(jnp.asarray(VALUES))
    np.testing.assert_allclose(grad, MASK / 3)


def test_mean_of_nothing_is_zero():
    assert masked_mean(VALUES, np.zeros(4, np.float32)) == 0.0


def test_mean_over_an_axis():
    x = np.array([[1.0, 5.0], [2.0, 4.0]], np.float32)
    mask = np.array([[1.0, 0.0], [1.0, 1.0]], np.float32)
    np.testing.assert_allclose(masked_mean(x, mask, axis=1), [1.0, 3.0])
