"""What every script shares: flags, and errors that a person can read."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import logging as std_logging

import jax
from absl import app, flags, logging

from mtl_jax.config import Config, load
from mtl_jax.core.errors import UserError
from mtl_jax.core.xla import keep_loops
from mtl_jax.train import compilation_cache, disk, distributed

CONFIG = flags.DEFINE_string(
    "config", "experiments/configs/quickstart.py", "Python file with get_config() -> Config."
)
SET = flags.DEFINE_multi_string(
    "set", [], "Overrides of the config, repeated: --set=train.steps=100 --set=data.folder=raw/"
)
MESH = flags.DEFINE_string(
    "mesh", None, "Devices of each axis: data=4,fsdp=2 (docs/scaling.md); instead of train.mesh."
)
CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder that keeps compiled programs between starts; off: none. Without the flag it is "
    "JAX_COMPILATION_CACHE_DIR, left to JAX alone, or else mtl_jax/xla in the user's cache folder.",
)
LOST = 3  # exit status
WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Folder for everything a run writes.")


def load_config() -> tuple[Config, Path]:
    """The configuration and the working folder that the flags name."""
    workdir = Path(WORKDIR.value)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None
    config = load(CONFIG.value, SET.value)
    if MESH.value is not None:
        config = replace(config, train=replace(config.train, mesh=MESH.value))
    return config, workdir


def use_compilation_cache() -> None:
    """What --compilation_cache says (docs/startup.md)."""
    name = CACHE.value
    if name in ("", "off"):
        jax.config.update("jax_enable_compilation_cache", False)
    elif name is not None or "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = compilation_cache.default_folder() if name is None else Path(name)
        try:
            compilation_cache.use(folder)
        except OSError as error:
            what = f"--compilation_cache={folder}: cannot be written ({error.strerror})"
            if name is not None:
                raise UserError(what) from None
            logging.warning("%s: what is compiled is not kept", what)


def _ours_or_serious(record: std_logging.LogRecord) -> bool:
    """Orbax tells of every thread it starts by the same logger; only its warnings are news.

    What it raises is told by whoever catches it, and not in two tracebacks before that.
    """
    ours = "orbax" not in record.pathname
    return ours or (record.levelno >= std_logging.WARNING and not record.exc_info)


def run(main: Callable[[], int | None]) -> None:
    """Parse flags and run. Errors for people are one message on stderr and no traceback.

    Exit status 2: bad input, or a full disk: it would be the same again. 3: another process of the
    same training has ended. 1: anything else, with a traceback.
    """

    def guarded(argv: Sequence[str]) -> int:
        if len(argv) > 1:
            print(f"error: {argv[1]!r} is no flag; see --help", file=sys.stderr)
            return 2
        keep_loops()
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().setFormatter(None)
        logging.get_absl_handler().addFilter(_ours_or_serious)
        std_logging.getLogger("jax").setLevel(std_logging.WARNING)
        std_logging.getLogger("asyncio").setLevel(std_logging.CRITICAL)  # Orbax's, raised as well
        sys.unraisablehook = _unraisable
        try:
            use_compilation_cache()
            return main() or 0
        except Exception as error:
            status = told(error)
            if not distributed.joined():
                if not status:
                    raise
                return status
            if not status:
                traceback.print_exc()
        sys.stderr.flush()
        os._exit(status or 1)  # the usual way out would wait for the others

    app.run(guarded)


def told(error: Exception) -> int:
    """Exit status after a message that a person can read, 0 if there is none for this error."""
    full = disk.full(error)
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
        return 2
    if full:
        where = getattr(error, "filename", None) or f"--workdir={WORKDIR.value}"
        print(f"error: {where}: {full}; make room and start again to go on", file=sys.stderr)
        return 2
    if distributed.lost(error):
        print(
            "error: another process of this training has ended: start all of them again with the "
            f"same --workdir to go on ({str(error).splitlines()[0][:200]})",
            file=sys.stderr,
        )
        return LOST
    return 0


def _unraisable(what: Any) -> None:
    """TensorStore goes on calling back after a failed save, of which Orbax has told."""
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)
