"""Trunks: what tasks share between z and their heads. One protocol, one file each.

A trunk is a module with the field `config: ModelConfig` and
`__call__(z [B, Dz], heads, deterministic) -> Trunk(outputs, penalties, gates)`, where
`heads[task](features [B, F])` applies that task's head; see `parts.Trunk`. Who reaches which
parameter is in their names; see `parts`.
"""

from typing import Any

from mtl_jax.core.names import choose
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.adatt import AdaTT
from mtl_jax.nn.trunks.aitm import AITM
from mtl_jax.nn.trunks.cgc import CGC
from mtl_jax.nn.trunks.classifier_chain import ClassifierChain
from mtl_jax.nn.trunks.cross_stitch import CrossStitch
from mtl_jax.nn.trunks.dselect_k import DSelectK
from mtl_jax.nn.trunks.esmm import ESMM
from mtl_jax.nn.trunks.mmoe import MMoE
from mtl_jax.nn.trunks.mtan import MTAN
from mtl_jax.nn.trunks.omoe import OMoE
from mtl_jax.nn.trunks.ple import PLE
from mtl_jax.nn.trunks.shared_bottom import SharedBottom
from mtl_jax.nn.trunks.single_task import SingleTask
from mtl_jax.nn.trunks.stem import STEM

TRUNKS: dict[str, Any] = {
    "single_task": SingleTask,
    "shared_bottom": SharedBottom,
    "omoe": OMoE,
    "mmoe": MMoE,
    "cgc": CGC,
    "ple": PLE,
    "cross_stitch": CrossStitch,
    "mtan": MTAN,
    "dselect_k": DSelectK,
    "stem": STEM,
    "adatt": AdaTT,
    "esmm": ESMM,
    "aitm": AITM,
    "classifier_chain": ClassifierChain,
}


def reached_heads(config: ModelConfig) -> tuple[str, ...]:
    """Tasks whose heads other tasks' losses reach as well: those that a chain goes through."""
    return config.chain[:-1] if config.trunk in ("esmm", "aitm") else ()


def last_shared(config: ModelConfig) -> str:
    """A regular expression on full parameter paths: the last layer that all tasks' losses reach.

    Its Dense and its norm; of a mixture, that of the experts that all tasks read. "" where the
    trunk shares no layer (single_task; a bottom without `trunk_widths`).
    """
    n, level = len(config.trunk_widths) - 1, config.levels - 1
    bottom = f"(layer|norm)_{n}"
    within = {
        "single_task": "",
        "shared_bottom": bottom,
        "omoe": f"experts/{bottom}",
        "mmoe": f"experts/{bottom}",
        "cgc": f"level_0/shared/experts/{bottom}",
        "ple": f"level_{level}/shared/experts/{bottom}",
        "cross_stitch": f"(towers|stitch)_{n}",
        "mtan": f"block_{n}_out",
        "dselect_k": f"experts/{bottom}",
        "stem": f"shared/experts/{bottom}",
        "adatt": f"level_{level}/experts/{bottom}",
        "esmm": bottom,
        "aitm": bottom,
        "classifier_chain": bottom,
    }
    found = choose(within, config.trunk, "trunk")
    return f"^heads/trunk/{found}/" if found and n >= 0 else ""
