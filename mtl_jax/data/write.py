"""Writes the files of a prepared folder and its manifest."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import polars as pl

from mtl_jax.data.clean import FLAGS, clean
from mtl_jax.data.column_file import write_columns
from mtl_jax.data.config import DataConfig
from mtl_jax.data.encoded import Encoded, encode, fit_statistics
from mtl_jax.data.folder import FolderWriter
from mtl_jax.data.hashing import collisions, hashed_rows
from mtl_jax.data.history import history_types, next_items, value_names
from mtl_jax.data.prepared import FORMAT
from mtl_jax.data.report import ColumnCount, Report, count_labels
from mtl_jax.data.schema import Categorical, Columns, RawData, Schema, StatisticColumn
from mtl_jax.data.split import LEFT_OUT, PARTS, TIE_RULE, split_frame
from mtl_jax.data.text import Tokens, load_tokenizer, position_limit, render, tokenise
from mtl_jax.data.vocab import Vocabulary


def write_prepared(
    writer: FolderWriter, load: Callable[[], RawData], config: DataConfig, record: dict[str, Any]
) -> None:
    """Loads, cleans, splits, fits and writes everything; the manifest comes last.

    What is as long as the log is let go of as soon as it is written: 10 million events must fit.

    Args:
        record: what the manifest says of where the data came from.
    """
    cleaned = clean(load(), config.latest_time)
    encoded = encode(cleaned.raw, config)
    raw, found = replace(cleaned.raw, events=pl.DataFrame(), earlier=None), cleaned.report
    del cleaned
    statistics, history, columns = fit_statistics(encoded, raw.columns, config)
    _write_events(writer, encoded)
    fitted = write_columns(
        writer.folder / "events" / "stats.npy", columns, len(encoded.split.part), encoded.train
    )
    _write_entities(writer, encoded)
    hashed = _write_user_rows(writer, encoded, config.hash_users)
    statistics.save(writer.folder / "statistics")
    if history is not None:
        history.save(writer.folder / "statistics" / "history")
    tokens = _write_texts(writer, raw, config)
    _write_vocabularies(writer, encoded, {**fitted, "clip": config.statistics.clip})
    report = _report(found, raw.columns, encoded, tokens, hashed)
    writer.text("report.md", report.to_markdown())
    names = statistics.columns + (history.columns if history is not None else ())
    schema = _schema(raw, encoded, names, tokens, config)
    split = encoded.split
    files = writer.files()
    manifest = {
        "format": FORMAT,
        "source": raw.name,
        **record,
        "raw": {"files": [list(entry) for entry in raw.files], **record["raw"]},
        "split": {
            "rule": split.rule,
            "ties": TIE_RULE,
            "valid_from": split.valid_from,
            "test_from": split.test_from,
            "sha256": split.digest,
            "rows": encoded.part_sizes,
        },
        "flags": FLAGS,
        "schema": schema.to_dict(),
        "vocabulary_digest": _vocabulary_digest(schema, files),
        "report": report.to_dict(),
        "files": files,
    }
    writer.json("manifest", manifest)


def _write_events(writer: FolderWriter, encoded: Encoded) -> None:
    events, histories = encoded.events, encoded.histories
    columns = {
        "user": events.user,
        "item": events.item,
        "time": events.time,
        "split": encoded.split.part,
        "row": events.row,
        "flag": events.flag,
        **{f"label_{name}": values for name, values in events.labels.items()},
        **{f"ctx_{name}": values for name, values in encoded.contexts.items()},
        "hist_start": histories.start,
        "hist_stop": histories.stop,
    }
    if events.other is not None:
        columns["other"] = events.other
    for name, values in columns.items():
        writer.array(f"events/{name}", values)
    following = next_items(encoded.positive, encoded.split.part, events.flag == 0)
    writer.array("events/next_items", following)
    writer.array("history/item", histories.item)
    writer.array("history/type", histories.type)
    writer.array("history/time", histories.time)
    writer.array("history/row", histories.row)
    split_frame(*encoded.all_parts).write_parquet(writer.folder / "split.parquet")


def _write_entities(writer: FolderWriter, encoded: Encoded) -> None:
    for kind, side in (("items", encoded.item_side), ("users", encoded.user_side)):
        for name, codes in side.categorical.items():
            writer.array(f"{kind}/cat_{name}", codes)
        writer.array(f"{kind}/dense", side.dense)
        writer.array(f"{kind}/warm", side.warm)
    writer.array("items/tags", encoded.item_side.tags)
    liked = encoded.positive.positive & (encoded.split.part == 0)
    counts = np.bincount(encoded.events.item[liked], minlength=len(encoded.items))
    writer.array("items/positives", counts.astype(np.int64))


def _write_user_rows(writer: FolderWriter, encoded: Encoded, buckets: int) -> tuple[str, ...]:
    """users/row.npy, where users are hashed, and what the report says of it."""
    if not buckets:
        return ()
    rows = hashed_rows(encoded.users.values, buckets)
    writer.array("users/row", rows)
    return (collisions(rows[encoded.user_side.warm], buckets),)


def _write_texts(writer: FolderWriter, raw: RawData, config: DataConfig) -> Tokens | None:
    texts = render(config.template, raw.items)
    pairs = render(config.template_pair, raw.items) if config.template_pair else None
    shown = texts if pairs is None else [f"{a} {b}" for a, b in zip(texts, pairs, strict=True)]
    lines = (
        json.dumps({"item": item, "text": text}, ensure_ascii=False)
        for item, text in zip(raw.items["item"], shown, strict=True)
    )
    writer.text("items/texts.jsonl", "".join(line + "\n" for line in lines))
    if not config.tokenizer:
        return None
    limit = position_limit(config.tokenizer)
    tokens = tokenise(load_tokenizer(config.tokenizer), texts, pairs, config.max_tokens, limit)
    # Item 0, padding and the unknown item, has no tokens at all.
    tokens = replace(tokens, offsets=np.concatenate([[0], tokens.offsets]).astype(np.int64))
    writer.array("items/tokens", tokens.ids)
    writer.array("items/token_offsets", tokens.offsets)
    if tokens.types is not None:
        writer.array("items/token_types", tokens.types)
    return tokens


def _write_vocabularies(writer: FolderWriter, encoded: Encoded, statistics: dict[str, Any]) -> None:
    folder = writer.folder / "vocab"
    folder.mkdir(parents=True)
    encoded.users.save(folder / "users.json")
    encoded.items.save(folder / "items.json")
    for prefix, found in (
        ("cat_", encoded.item_side.vocabularies),
        ("user_cat_", encoded.user_side.vocabularies),
        ("ctx_", encoded.context_vocabularies),
    ):
        for name, vocabulary in found.items():
            plain = name == "tags" and prefix == "cat_"
            vocabulary.save(folder / f"{'tags' if plain else prefix + name}.json")
    first = encoded.split.part == 0
    values = {k: v[first & np.isfinite(v)] for k, v in encoded.events.labels.items()}
    transforms = {
        "item_dense": asdict(encoded.item_side.standardise),
        "user_dense": asdict(encoded.user_side.standardise),
        "statistics": statistics,
        "labels": {
            k: {"mean": float(v.mean(dtype=np.float64)), "std": max(float(v.std()), 1e-6)}
            for k, v in values.items()
            if len(v)
        },
    }
    writer.json("vocab/transforms", transforms)


def _report(
    cleaned: Report,
    columns: Columns,
    encoded: Encoded,
    tokens: Tokens | None,
    hashed: tuple[str, ...],
) -> Report:
    part = encoded.split.part
    counts = encoded.part_sizes
    notes = [f"{n} {name} rows" for name, n in counts.items() if n or name != PARTS[LEFT_OUT]]
    notes.append(TIE_RULE)
    notes += [*encoded.notes, *hashed]
    if encoded.split.drawn:
        notes.append("parts are drawn whatever their time: histories hold training rows alone")
    if encoded.histories.late:
        notes.append(
            f"{encoded.histories.late} given history entries not before their row: left out"
        )
    if tokens is not None:
        notes.append(f"{tokens.cut} of {len(tokens.offsets) - 2} item texts were cut to fit")
    labels = count_labels(columns.labels, encoded.events.labels, part)
    rules = (*cleaned.rules, *encoded.rules)
    return Report(rules, labels, _columns(encoded), tuple(notes))


def _columns(encoded: Encoded) -> tuple[ColumnCount, ...]:
    """What became of every categorical and numeric column."""
    found = []

    def categorical(table: str, name: str, values: Vocabulary, empty: np.ndarray) -> None:
        what = f"{len(values.values) - 1} values"
        what += f", {values.buckets} buckets" if values.buckets else ""
        found.append(ColumnCount(table, name, what, float(empty.mean()) if len(empty) else 0.0))

    for table, side in (("items", encoded.item_side), ("users", encoded.user_side)):
        for name, codes in side.categorical.items():
            categorical(table, name, side.vocabularies[name], codes[1:] == 0)
        if "tags" in side.vocabularies:
            categorical(table, "tags", side.vocabularies["tags"], (side.tags[1:] == 0).all(1))
        fitted = side.standardise
        for i, name in enumerate(fitted.columns):
            what = f"mean {fitted.means[i]:.4g}, standard deviation {fitted.stds[i]:.4g}"
            if fitted.lows[i] is not None:
                what += f", cut to {fitted.lows[i]:.4g} .. {fitted.highs[i]:.4g}"
            absent = side.dense[1:, len(fitted.columns) + i]
            found.append(
                ColumnCount(table, name, what, float(absent.mean()) if len(absent) else 0.0)
            )
    for name, codes in encoded.contexts.items():
        categorical("events", name, encoded.context_vocabularies[name], codes == 0)
    return tuple(found)


def _schema(
    raw: RawData,
    encoded: Encoded,
    statistics: tuple[StatisticColumn, ...],
    tokens: Tokens | None,
    config: DataConfig,
) -> Schema:
    items, users = encoded.item_side, encoded.user_side
    history = config.history
    return Schema(
        n_users=len(encoded.users),
        n_items=len(encoded.items),
        labels=raw.columns.labels,
        positive=raw.columns.positive,
        category=raw.columns.item_category,
        item_categorical=_sizes(items.vocabularies, items.categorical),
        user_categorical=_sizes(users.vocabularies, users.categorical),
        context=_sizes(encoded.context_vocabularies, encoded.contexts),
        n_tags=items.n_tags,
        tag_width=items.tags.shape[1],
        item_dense=items.standardise.names,
        user_dense=users.standardise.names,
        statistics=statistics,
        history_types=history_types(raw.columns, history == "all"),
        history=history,
        history_values=value_names(raw.columns, history == "all"),
        token_types=tokens is not None and tokens.types is not None,
        other=encoded.events.other is not None,
        user_buckets=config.hash_users,
    )


def _sizes(found: dict[str, Vocabulary], columns: Iterable[str]) -> tuple[Categorical, ...]:
    return tuple(Categorical(name, len(found[name])) for name in columns)


def _vocabulary_digest(schema: Schema, files: dict[str, dict[str, Any]]) -> str:
    """Over the schema and every vocabulary, but not the fitted numbers."""
    digest = hashlib.sha256(json.dumps(schema.to_dict(), sort_keys=True).encode())
    for name in sorted(files):
        if name.startswith("vocab/") and name != "vocab/transforms.json":
            digest.update(f"{name} {files[name]['sha256']}".encode())
    return digest.hexdigest()
