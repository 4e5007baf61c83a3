"""KuaiRand-Pure (Gao et al., CIKM 2022), its late logs: short videos, six kinds of feedback.

Read are every `log_*.parquet`, `user_features_pure.csv`, `video_features_basic_pure.csv` (each
plain or .gz) and, where it is there, `user_history_until_20220424.parquet`: up to 50 videos that a
user watched before the log. The parts are days by the log's `date`: before `valid_day` is train,
that day valid, later days test.

Outcomes are labels or are not read at all: play time, watch ratio, finish, stay times and the
derived `like`, `long_watch`, `is_positive` never reach a column. `follow_user_num` and its range
may count follows made during the log and are left out too.

A few rows of a day lie after the first rows of the next (the log's days are not cut by time). Of
these, the ones that would be training rows after a valid row stand in histories alone. Earlier
videos have no times but the last one's, which stands for all of them: no row before it sees any. Of
a user whose history ends after the log began nothing is read of it.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.read import (
    Table,
    digests,
    parquet,
    require,
    require_columns,
)

LABELS = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "profile_enter": "is_profile_enter",
}
LOG: dict[str, pl.DataType] = dict.fromkeys(
    ("user_id", "video_id", "date", "time_ms", "tab", *LABELS.values()), pl.Int64()
)
VIDEO: dict[str, pl.DataType] = {
    "video_id": pl.Int64(),
    **dict.fromkeys(
        ("author_id", "video_type", "upload_dt", "upload_type", "music_id", "music_type", "tag"),
        pl.String(),
    ),
    **dict.fromkeys(("video_duration", "server_width", "server_height"), pl.Float64()),
}
RANGES = ("fans_user_num_range", "friend_user_num_range", "register_days_range")
NUMBERS = ("fans_user_num", "friend_user_num", "register_days")
FLAGS = ("user_active_degree", "is_live_streamer", "is_video_author")
ONE_HOT = tuple(f"onehot_feat{i}" for i in range(18))
USER: dict[str, pl.DataType] = {
    "user_id": pl.Int64(),
    **dict.fromkeys((*FLAGS, *RANGES, *ONE_HOT), pl.String()),
    **dict.fromkeys(NUMBERS, pl.Float64()),
}
SEEN: dict[str, pl.DataType] = {
    "user_id": pl.Int64(),
    "last_time_ms": pl.Int64(),
    "history_len": pl.Int64(),
    **dict.fromkeys(("watch_seq", "like_seq", "long_watch_seq"), pl.List(pl.Int64())),
}
MISSING = "-124"  # how the set writes an unknown flag
BEFORE = ("log_seen", "long_share", "like_share")  # of what was watched before the log
SHRINK = 5.0  # watched videos by which a share is drawn to that of all

COLUMNS = Columns(
    labels=tuple(Label(name, "binary") for name in LABELS),
    positive="click",
    item_text=(),
    item_category="category",
    item_tags="tags",
    item_categorical=("author", "video_type", "upload_type", "upload_day", "music", "music_type"),
    item_dense=("log_duration", "width", "height", *BEFORE),
    user_categorical=(*FLAGS, *RANGES, *ONE_HOT),
    user_dense=(*(f"log_{name}" for name in NUMBERS), *BEFORE),
    context=("tab",),
)


def load_kuairand(folder: str | Path, valid_day: int) -> RawData:
    """The raw folder as RawData, name "kuairand".

    events: user, item, time (unix seconds), the six labels, tab, split. items: item, category (the
    first tag), tags, author, ..., the logarithm of the length in ms, and how often it was watched
    (log), watched long and liked before the log. users: user, profile, the same three. earlier:
    what was watched before the log, with long_view and like.

    Args:
        valid_day: as 20220505, the day that is valid.

    Raises:
        UserError: a file, column or value that is missing or not what it must be, or no such day.
    """
    base = Path(folder)
    logs = sorted(base.glob("log_*.parquet"))
    if not logs:
        require(base, "log_*.parquet")
    log = pl.concat([parquet(path, LOG) for path in logs])
    days = sorted(log["date"].unique())
    if valid_day not in days[1:]:
        raise UserError(
            f"data.valid_day={valid_day}: the log has days {days[0]} to {days[-1]}; name one of "
            "them, not the first"
        )
    features = [
        require(base, name) for name in ("user_features_pure.csv", "video_features_basic_pure.csv")
    ]
    users, videos = _table(features[0], USER), _table(features[1], VIDEO)
    paths = [*logs, *features]
    seen = pl.DataFrame(schema=SEEN)
    if (base / "user_history_until_20220424.parquet").is_file():
        paths.append(base / "user_history_until_20220424.parquet")
        seen = parquet(paths[-1], SEEN).filter(pl.col("last_time_ms") < log["time_ms"].min())
    events = _events(log, valid_day)
    watched = _watched(seen)
    late = (events["split"] == 0) & (events["time"] >= _start(events, 1))
    return RawData(
        "kuairand",
        events.filter(~late),
        _items(videos, watched),
        _users(users, watched),
        COLUMNS,
        digests(base, paths),
        earlier=pl.concat([watched, events.filter(late).select(watched.columns)]),
    )


def _table(path: Path, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Those columns of a quoted CSV file; blanks are missing."""
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from error
    require_columns(path, frame.columns, tuple(types))
    texts = Table(path, {name: frame[name].fill_null("").to_list() for name in types}, 2)
    return pl.DataFrame(
        {
            name: frame[name].replace("", None)
            if dtype == pl.String
            else texts.floats(name, may_be_empty=True).cast(dtype)
            for name, dtype in types.items()
        }
    )


def _start(events: pl.DataFrame, part: int) -> int:
    return int(events.filter(pl.col("split") == part)["time"].min())  # type: ignore[arg-type]


def _events(log: pl.DataFrame, valid_day: int) -> pl.DataFrame:
    day = pl.col("date")
    return log.select(
        pl.col("user_id").cast(pl.String).alias("user"),
        pl.col("video_id").cast(pl.String).alias("item"),
        (pl.col("time_ms") // 1000).alias("time"),
        *(pl.col(column).cast(pl.Float64).alias(name) for name, column in LABELS.items()),
        pl.col("tab").cast(pl.String),
        ((day >= valid_day).cast(pl.Int64) + (day > valid_day).cast(pl.Int64)).alias("split"),
    )


def _watched(seen: pl.DataFrame) -> pl.DataFrame:
    """One row per earlier video: user, item, time of the user's last one, and the labels."""
    rows = seen.explode("watch_seq").drop_nulls("watch_seq")

    def among(column: str) -> pl.Expr:
        return pl.col("watch_seq").is_in(pl.col(column)).cast(pl.Float64)

    unknown = pl.lit(None, pl.Float64)
    known = {"long_view": among("long_watch_seq"), "like": among("like_seq")}
    return rows.select(
        pl.col("user_id").cast(pl.String).alias("user"),
        pl.col("watch_seq").cast(pl.String).alias("item"),
        (pl.col("last_time_ms") // 1000).alias("time"),
        *(known.get(name, unknown).alias(name) for name in LABELS),
    )


def _before(watched: pl.DataFrame, key: str) -> pl.DataFrame:
    """Per user or item: log of what was watched before the log, drawn shares of long and liked."""
    base = watched.select(pl.col("long_view").mean(), pl.col("like").mean()).row(0)

    def share(column: str, mean: float | None) -> pl.Expr:
        return (pl.col(column).sum() + SHRINK * (mean or 0.0)) / (pl.len() + SHRINK)

    return watched.group_by(key).agg(
        pl.len().log1p().alias("log_seen"),
        share("long_view", base[0]).alias("long_share"),
        share("like", base[1]).log().alias("like_share"),
    )


def _items(videos: pl.DataFrame, watched: pl.DataFrame) -> pl.DataFrame:
    tags = pl.col("tag").str.split(",").list.eval(pl.element().str.strip_chars())
    return videos.select(
        pl.col("video_id").cast(pl.String).alias("item"),
        tags.list.first().alias("category"),
        tags.fill_null([]).alias("tags"),
        pl.col("author_id").alias("author"),
        "video_type",
        "upload_type",
        pl.col("upload_dt").alias("upload_day"),
        pl.col("music_id").alias("music"),
        "music_type",
        pl.col("video_duration").log1p().alias("log_duration"),
        pl.col("server_width").alias("width"),
        pl.col("server_height").alias("height"),
    ).join(_before(watched, "item"), on="item", how="left", maintain_order="left")


def _users(users: pl.DataFrame, watched: pl.DataFrame) -> pl.DataFrame:
    return users.select(
        pl.col("user_id").cast(pl.String).alias("user"),
        *(pl.col(name).replace(MISSING, None) for name in (*FLAGS, *RANGES, *ONE_HOT)),
        *(pl.col(name).clip(0).log1p().alias(f"log_{name}") for name in NUMBERS),
    ).join(_before(watched, "user"), on="user", how="left", maintain_order="left")
