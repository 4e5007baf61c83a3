"""Looks at a folder of files and writes a proposal of how to read them."""

from pathlib import Path

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.tables.guess import guess
from mtl_jax.data.sources.tables.heads import read_heads
from mtl_jax.data.sources.tables.propose import schema_text, table
from mtl_jax.data.sources.tables.propose_config import config_text


def inspect(folder: Path, workdir: Path) -> tuple[str, tuple[Path, Path]]:
    """(what was found and guessed, the files written: workdir's schema.toml and config.py).

    Raises:
        UserError: files that cannot be read, a workdir that cannot be written or is the folder
            itself, or a proposal there that has been edited: it is never written over.
    """
    if workdir.resolve() == folder.resolve():
        raise UserError(
            f"--workdir={workdir}: name another folder than that of the files, whose contents "
            "decide whether prepared data are up to date"
        )
    found = guess(read_heads(folder))
    texts = (schema_text(found), config_text(found, folder))
    paths = (workdir / "schema.toml", workdir / "config.py")
    for path, text in zip(paths, texts, strict=True):
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path} exists and is not what would be written now; it may hold your edits: "
                "remove it, or name another --workdir"
            )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror})") from None
    return table(found), paths
