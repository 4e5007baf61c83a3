"""Trunks: what tasks share between z and their heads. One protocol, one file each.

A trunk is a module whose `__call__(z [B, Dz], tasks, deterministic) -> {task: [B, F]}`.
"""

from typing import Any

from mtl_jax.nn.trunks.shared_bottom import SharedBottom

TRUNKS: dict[str, Any] = {"shared_bottom": SharedBottom}
