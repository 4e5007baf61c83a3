"""A schema file and a config file out of guesses, and a table of what was guessed and why."""

from typing import Any

from mtl_jax.data.sources.tables import words
from mtl_jax.data.sources.tables.guess import Guess, Guesses, Section
from mtl_jax.data.sources.tables.layout import MISSING_TEXTS
from mtl_jax.data.sources.tables.load import as_name
from mtl_jax.data.sources.tables.roles import tag_separator

_FIRST = ("click", "clicked", "like", "liked", "watch", "play", "purchase", "buy", "order")


def table(found: Guesses) -> str:
    """What was found, one line per column."""
    lines = []
    for title, section in _sections(found):
        heads = ", ".join(
            f"{h.path.name} ({'' if h.whole else 'first '}{h.frame.height:,} rows)"
            for h in section.heads
        )
        lines.append(f"{title}: {heads}")
        rows = [
            (g.column, g.role, g.why, ", ".join(g.profile.samples) + _holes(g))
            for g in section.guesses
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines += [
            "  " + "  ".join([*(t.ljust(w) for t, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        ]
    lines += [f"not used: {path.name}" for path in found.unused]
    lines += ["", *(f"check: {doubt}" for doubt in doubts(found))]
    return "\n".join(lines)


def doubts(found: Guesses) -> list[str]:
    """What a reader should look at before believing the proposal."""
    log = found.events
    told = []
    if not log.of("user") and log.of("item"):
        told.append(
            "no column looks like a user; write user = ... if there is one (without, all rows are "
            "of one user and rows are split by chance)"
        )
    if not log.of("user", "item", "label", "grade", "behaviour"):
        told.append(
            "nothing looks like a user, an item or an outcome, so there is nothing to learn: name "
            "them in schema.toml, and tasks in config.py"
        )
        return told
    if log.of("user") and not log.of("item"):
        told.append("no column looks like an item; write item = ... if there is one")
    if not log.of("time") and log.of("user"):
        told.append(
            'no column is a time: write order = "rows" if the rows stand in the order in which '
            'they happened, and split="leave_last_out" in config.py'
        )
    told += [f"{g.column}: {g.why}" for g in log.of("time") if g.profile.unsure]
    for title, section in _sections(found):
        encoding = section.heads[0].dialect.encoding
        if encoding not in ("", "utf-8", "utf-8-sig"):
            told.append(f"{title}: the file is no UTF-8 and is read as {encoding}")
        if section.heads[0].dialect.columns:
            told.append(f"{title}: no header; the columns are numbered and guessed by their values")
    if not found.events.of("label", "grade", "behaviour"):
        told.append("no column looks like an outcome: the only task is the next item")
    return told


def _holes(guess: Guess) -> str:
    return f"  [{guess.profile.absent:,} missing]" if guess.profile.absent else ""


def _sections(found: Guesses) -> list[tuple[str, Section]]:
    named = [("events", found.events), ("items", found.items), ("users", found.users)]
    return [(title, section) for title, section in named if section is not None]


def schema_text(found: Guesses) -> str:
    """The schema file: every guess that is used, and beside it what was left out and why."""
    log = found.events
    missing = [m for _, s in _sections(found) for g in s.guesses for m in g.profile.missing]
    missing = list(dict.fromkeys(["", *missing, *MISSING_TEXTS]))
    time = _one(log, "time")
    lines = [
        "# What the files hold; a proposal of `prepare --inspect`. Edit it freely.",
        "# See mtl_jax/data/sources/tables/layout.py for everything that can stand here.",
        _line("missing", missing, "texts that stand for a missing value"),
        "",
        "[events]  # one row is one event",
        *_files(log, found.items is None),
        *([_line("user", u)] if (u := _one(log, "user")) else []),
        *([_line("item", i)] if (i := _one(log, "item")) else ["# no item: each row is its own"]),
    ]
    if time:
        p = log.of("time")[0].profile
        check = "or month and day the other way round?" if p.unsure else ""
        lines += [_line("time", time), _line("time_format", p.form, check)]
        if p.form not in ("s", "ms", "us", "ns") and "%z" not in p.form:
            lines.append(_line("time_zone", "UTC", "of times that name none"))
    else:
        lines.append('order = "none"  # "rows": the rows stand in the order in which they happened')
    for role in ("split", "scenario"):
        if _one(log, role):
            lines.append(_line(role, _one(log, role)))
    if contexts := [g.column for g in log.of("context")]:
        lines.append(_line("context", contexts, "known before the outcome? if not, take it out"))
    labels = label_rules(found)
    lines += [_line("positive", positive(labels), "the label that makes histories")]
    lines += _left_out(log)
    for name, rule in labels.items():
        lines += ["", f"[labels.{_key(name)}]", *(_line(k, v) for k, v in rule.items())]
    lines += _items(found)
    lines += _users(found)
    return "\n".join(lines) + "\n"


def label_rules(found: Guesses) -> dict[str, dict[str, Any]]:
    """Label name -> its section; `interaction`, always 1, where the log says only what happened."""
    log, rules = found.events, dict[str, dict[str, Any]]()
    shown = False
    for g in log.of("behaviour"):
        kinds = log.heads[0].frame[g.column].drop_nulls().value_counts(sort=True)[g.column]
        low = {kind: kind.strip().lower().replace(" ", "_").replace("-", "_") for kind in kinds}
        shown = any(name in words.SHOWN for name in low.values())
        for kind, name in low.items():
            if name and name not in words.PASSIVE | words.SHOWN:
                rules[as_name(name)] = {"column": g.column, "one_of": [kind.strip()]}
    for g in log.of("label", "grade"):
        p, name = g.profile, as_name(g.column)
        if p.kind == "flag":
            rules[name] = {"column": g.column}
        elif g.role == "grade":
            rules[name] = {"column": g.column, "kind": "value", "low": p.low, "high": p.high}
            rules["like"] = {"column": g.column, "at_least": _liked(p.high)}
        else:
            rules[name] = {"column": g.column, "kind": "value"}
    happened = bool(log.of("behaviour")) and not shown
    if happened or not any(rule.get("kind") != "value" for rule in rules.values()):
        rules = {"interaction": {"always": True}, **rules}
    return rules


def _liked(high: float) -> float:
    """The grade from which on it is a like: four fifths of the best."""
    return round(0.8 * high) if high > 2 else high


def positive(labels: dict[str, dict[str, Any]]) -> str:
    """The label that makes histories."""
    binary = [name for name, rule in labels.items() if rule.get("kind") != "value"]
    if "interaction" in binary:
        return "interaction"
    return next((name for name in _FIRST if name in binary), binary[0])


def _items(found: Guesses) -> list[str]:
    section = found.items or found.events
    text = section.of("item text")
    tags, category = section.of("item tags"), section.of("item category")
    further = [g.column for g in section.of("item categorical")]
    further += [g.column for g in category[1:]]
    dense = [g.column for g in section.of("item dense")]
    lines = _files(section, False) if found.items else []
    lines += [_line("id", section.key)] if found.items else []
    if text:
        text = sorted(text, key=lambda g: (not words.has(g.column, words.TITLE), g.profile.words))
        lines.append(_line("text", [g.column for g in text]))
        template = ". ".join(f"{{{as_name(g.column)}}}" for g in text)
        lines.append(_line("template", template, "what the language model reads of an item"))
        if any(g.profile.html for g in text):
            lines.append(_line("html", True, "entities (&amp;) and tags are in the texts"))
    if category:
        lines.append(_line("category", category[0].column))
    elif tags:
        lines.append(_line("category", tags[0].column, "the first of the tags"))
    if tags:
        lines.append(_line("tags", tags[0].column))
        separator = tag_separator(tags[0].profile, section.heads[0].frame[tags[0].column])
        lines += [_line("tags_separator", separator)] if separator else []
    lines += [_line("categorical", further)] if further else []
    lines += [_line("dense", dense)] if dense else []
    lines += _left_out(section) if found.items else []
    where = "" if found.items else "  # columns of the events"
    return ["", f"[items]{where}", *lines] if lines else []


def _users(found: Guesses) -> list[str]:
    section = found.users or found.events
    names = [g.column for g in section.of("user categorical")]
    dense = [g.column for g in section.of("user dense")]
    lines = [*_files(section, False), _line("id", section.key)] if found.users else []
    lines += [_line("categorical", names)] if names else []
    lines += [_line("dense", dense)] if dense else []
    lines += _left_out(section) if found.users else []
    where = "" if found.users else "  # columns of the events"
    return ["", f"[users]{where}", *lines] if lines else []


def _files(section: Section, alone: bool) -> list[str]:
    dialect = section.heads[0].dialect
    lines = [_line("files", [head.path.name for head in section.heads])]
    if dialect.separator:
        lines.append(_line("separator", dialect.separator))
    if dialect.encoding not in ("", "utf-8", "utf-8-sig"):
        lines.append(_line("encoding", dialect.encoding))
    if dialect.columns:
        lines.append(_line("columns", list(dialect.columns), "the file has no header"))
    numbers = [g.profile for g in section.guesses if g.profile.kind == "number"]
    if any(p.decimal == "," for p in numbers):
        lines.append(_line("decimal", ","))
    return lines


def _left_out(section: Section) -> list[str]:
    return [f"# left out: {g.column} ({g.why})" for g in section.of("left out")]


def _one(section: Section, role: Any) -> str:
    found = section.of(role)
    return found[0].column if found else ""


def _line(name: str, value: Any, comment: str = "") -> str:
    return f"{name} = {_toml(value)}" + (f"  # {comment}" if comment else "")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(v) for v in value)}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("\t", "\\t")
    text = "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in text)
    return f'"{text}"'


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else _toml(name)
