"""Names of types and the shape letters used everywhere.

B batch rows, S data shards, U unique items of a shard, H history, L tokens, P packed rows,
T tasks, E experts, D width, V vocabulary, K candidates, N rows of a column on disk.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

Array = jax.Array
HostArray = np.ndarray[Any, np.dtype[Any]]
Params = Mapping[str, Any]  # a nested dict of arrays
Batch = Mapping[str, Any]  # a flat dict of arrays with static shapes
