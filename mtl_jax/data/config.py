"""The part of the configuration that `data` owns."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StatisticsConfig:
    """Which label statistics become features; see `mtl_jax.data.statistics`.

    keys: what is counted: names joined by "*". A name is "user", "item", "tags", "category" (the
        main category), an item column, "profile.<column>" or "context.<column>"; "categorical",
        "profile" and "context" alone stand for each column of theirs. Names that a source does
        not have ("tags" where there are none) are left out.
    labels: which labels are counted; empty is all.
    train: what a training row sees: "causal" (events strictly before its time), "kfold" (all
        training rows but those of its own fold) or "blocks" (all training rows but those of its
        own block of time: what it sees is as far from it in time as later rows are from the end of
        training, and counts are those of the frozen tables, which a causal row's are not).
    folds: of "kfold".  block_days: length of a block, counted from 1970-01-01 UTC.
    strength: pseudo-rows with which a key's rate is drawn to the rate of all rows.
    strengths: (key, its own strength); a key as it is named in the columns.
    history: columns that compare the row's history with its item; see
        `mtl_jax.data.history_features`.  history_last: how many of its latest entries they read.
    clip: standardised columns are cut to -clip .. clip; 0 leaves them as they are.
    recency: hours since a key's last event: "frozen" (as they were when the tables were frozen,
        the end of training, however much later the question is asked), "now" (they keep growing
        after it), "off" (no such features).
    """

    keys: tuple[str, ...] = (
        "user",
        "item",
        "category",
        "categorical",
        "tags",
        "user*category",
        "user*categorical",
        "user*tags",
    )
    labels: tuple[str, ...] = ()
    train: Literal["causal", "kfold", "blocks"] = "causal"
    folds: int = 5
    block_days: float = 7.0
    strength: float = 10.0
    strengths: tuple[tuple[str, float], ...] = ()
    history: bool = True
    history_last: int = 50
    clip: float = 0.0
    recency: Literal["frozen", "now", "off"] = "frozen"


@dataclass(frozen=True)
class FittedConfig:
    """What is fitted on training rows beside statistics, and used as it is on all others.

    bot_events: who has that many training rows within one hour is a bot: dropped from the training
        rows, flagged in the others; 0 keeps everyone.
    outlier_fences: numbers are cut to that many interquartile ranges beyond the quartiles of the
        training rows, 3 is usual; labels without a range too, in training rows (later rows are
        flagged and keep theirs); 0 keeps everything.
    min_count: categories, tags and contexts that fewer training entities (or rows) have share
        code 0 or a bucket.
    buckets: (column, n): values without a code of their own are hashed into n codes, later ones
        too; other columns take them as unknown.
    """

    bot_events: int = 0
    outlier_fences: float = 0.0
    min_count: int = 1
    buckets: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class WorldConfig:
    """The generated shop: number of events, seed, and how far its tasks are at odds.

    conflict: c in [0, 1]; at 0 all labels follow one taste u of the user. The taste that drives
        purchase and rating is R u = cos(a) u + sin(a) J u, a = c 90 degrees, J a quarter turn in
        each of the planes of the factors (0, 1) and (2, 3); click, dwell and what is shown keep u.
        The tastes' cosine is cos(a): 1, .92, .71, .38, 0 at c = 0, .25, .5, .75, 1. Base rates and
        ceilings stay about the same; a representation too narrow for both tastes cannot serve both.
        See `mtl_jax.data.world_effects`.
    """

    events: int = 20_000
    seed: int = 0
    conflict: float = 0.0


@dataclass(frozen=True)
class DataConfig:
    """Where the raw data lies and how it is prepared.

    source: a key of `mtl_jax.data.sources.SOURCES`.
    folder: the raw folder (unused by "world").  prepared: the folder to write; ""
        is `prepared` in the working folder.
    schema: of "tables": the file that says what the columns are; "" is schema.toml in the folder.
    template: an item's text, `{column}` for the item's columns.
    template_pair: the second text of a pair, "" for none.
    tokenizer: a local Hugging Face folder; "" writes texts and no tokens.
    max_tokens: texts are cut to it, special tokens included.
    split: "time" (by global time), "leave_last_out" (each user's last event is test, the one
        before valid), "given" (the source's own parts), "ratio" (rows drawn by `split_seed`),
        "kfold" (fold `fold` of `folds` is valid, the others train, nothing is test), "rolling" (the
        rows in `folds` + 1 spans of equal numbers by time: span `fold` + 1 is valid, those before
        it train, those after it are left out) or "file" (as `split_file` says, a `split.parquet`).
        Where rows are drawn ("ratio", "file", "kfold" by row) training rows may be later than
        those they are judged by; histories then hold training rows alone.
    valid_from, test_from: unix seconds at which the parts of "time" begin; 0 takes fractions.
    valid_fraction, test_fraction: of "time" and "ratio"; for "time" measured as `fraction_of` says,
        in rows or in the span of time.
    stratify: of "ratio": a binary label, drawn so that its share is the same in all parts; "" none.
    fold_by: of "kfold": what is drawn into folds, rows or users with all their rows.
    history: what histories hold: "positive" events, or "all" (with what came of each in its type).
    hash_users: rows of the users' embedding table into which ids are hashed, known and unknown ones
        alike; 0 gives every known user a row of its own and the unknown none (`docs/tables.md`).
    latest_time: unix seconds after which a time is impossible; 0 is the clock when preparing.
    valid_day: of "kuairand": as 20220505, the day that is valid; days before it train.
    """

    source: str = "world"
    folder: str = ""
    prepared: str = ""
    schema: str = ""
    template: str = "{title}. {description}"
    template_pair: str = ""
    tokenizer: str = ""
    max_tokens: int = 128
    split: Literal["time", "leave_last_out", "given", "ratio", "kfold", "rolling", "file"] = "time"
    valid_from: int = 0
    test_from: int = 0
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    fraction_of: Literal["rows", "time"] = "rows"
    split_seed: int = 0
    stratify: str = ""
    folds: int = 5
    fold: int = 0
    fold_by: Literal["row", "user"] = "row"
    split_file: str = ""
    hash_users: int = 0
    latest_time: int = 0
    history: Literal["positive", "all"] = "positive"
    valid_day: int = 0
    fitted: FittedConfig = FittedConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    world: WorldConfig = WorldConfig()
