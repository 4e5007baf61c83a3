"""What every script shares: flags, and errors that a person can read."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import logging as std_logging

from absl import app, flags, logging

from mtl_jax.config import Config, load
from mtl_jax.core.errors import UserError

CONFIG = flags.DEFINE_string(
    "config", "experiments/configs/quickstart.py", "Python file with get_config() -> Config."
)
SET = flags.DEFINE_multi_string(
    "set", [], "Overrides of the config, repeated: --set=train.steps=100 --set=data.folder=raw/"
)
WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Folder for everything a run writes.")


def load_config() -> tuple[Config, Path]:
    """The configuration and the working folder that the flags name."""
    workdir = Path(WORKDIR.value)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None
    return load(CONFIG.value, SET.value), workdir


def _ours_or_serious(record: std_logging.LogRecord) -> bool:
    """Orbax tells of every thread it starts by the same logger; only its warnings are news."""
    return record.levelno >= std_logging.WARNING or "orbax" not in record.pathname


def run(main: Callable[[], int | None]) -> None:
    """Parse flags and run; a UserError is one message on stderr and exit status 2."""

    def guarded(argv: Sequence[str]) -> int:
        if len(argv) > 1:
            print(f"error: {argv[1]!r} is no flag; see --help", file=sys.stderr)
            return 2
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().setFormatter(None)
        logging.get_absl_handler().addFilter(_ours_or_serious)
        std_logging.getLogger("jax").setLevel(std_logging.WARNING)
        try:
            return main() or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    app.run(guarded)
