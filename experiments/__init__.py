"""Scripts: prepare, train, evaluate, recommend, quickstart."""

import sys

from mtl_jax.core.memory import keep_freed_memory

if sys.argv[0] == "-m":  # python -m experiments.x is being found: no other thread allocates yet
    keep_freed_memory()
