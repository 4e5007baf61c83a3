"""Three folders as strangers bring them: other names, other dialects, and the usual faults.

Each writer makes a small log in which something can be learnt, and gives the ids of its users.
"""

import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2024, 3, 1, 8, tzinfo=UTC)


def _pairs(rng, rows, users, items):
    """(user, item, whether the item's kind is the user's) of every row."""
    user = np.minimum(rng.zipf(1.6, rows), users) - 1
    item = rng.integers(0, items, rows)
    return user, item, user % 3 == item % 3


def write_bookshop(folder: Path, rows: int = 500, seed: int = 0) -> list[str]:
    """One semicolon file in Windows' Latin-1: zoned ISO dates, decimal commas, grades, faults.

    Columns of books and readers stand in the log itself.
    """
    rng = np.random.default_rng(seed)
    user, item, fits = _pairs(rng, rows, 30, 40)
    zone = timezone(timedelta(hours=2))
    at = START + np.cumsum(rng.integers(60, 7200, rows)) * timedelta(seconds=1)
    lines = ["Kundennr;ISBN;Titel;Kategorie;Preis;Bundesland;Datum;Bewertung;Gerät"]
    for u, i, fit, when in zip(user, item, fits, at, strict=True):
        grade = int(np.clip(rng.normal(4.4 if fit else 2.6, 0.8), 1, 5).round())
        title = f'"Die Straße nach Köln; Band {i}"' if i % 4 else f"Größe und Maß – Teil {i}"
        lines.append(
            f"K{u:03};978-3-{i:05};{title};{('Krimi', 'Lyrik', 'Reise')[i % 3]};{8 + i % 7},95;"
            f"{('Bayern', 'Hessen', 'Saarland')[u % 3]};{when.astimezone(zone).isoformat()};"
            f"{grade};{('Handy', 'PC')[int(rng.integers(2))]}"
        )
    lines[20] = lines[20].replace("K0", " K0").replace("Handy", "")  # blanks around an id
    lines[30] = ";" + lines[30].split(";", 1)[1]  # no customer
    lines[40] = lines[39]  # the same row twice
    lines[50] = lines[50].rsplit(";", 2)[0] + ";;PC"  # no grade
    (folder / "bestellungen.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    return sorted({f"K{u:03}" for u in user})


def write_app(folder: Path, rows: int = 600, seed: int = 1) -> list[str]:
    """Two JSON-lines files of an app, one packed: nested keys, milliseconds, kinds of behaviour.

    The catalogue is a JSON list; some keys are missing, some are null.
    """
    rng = np.random.default_rng(seed)
    user, item, fits = _pairs(rng, rows, 40, 30)
    at = int(START.timestamp() * 1000) + np.cumsum(rng.integers(1000, 9_000_000, rows))
    lines = []
    for u, i, fit, when in zip(user, item, fits, at, strict=True):
        kind = ["view", "add-to-cart", "purchase"][
            int(rng.choice(3, p=[0.4, 0.3, 0.3] if fit else [0.9, 0.08, 0.02]))
        ]
        event = {
            "event": kind,
            "ts": int(when),
            "user": {"id": int(9000 + u), "country": ["SE", "NO", "NA"][u % 3]},
            "product": {"id": f"p{i}"},
            "device": {"os": ["ios", "android"][int(rng.integers(2))]},
            "tab": ["home", "search"][int(rng.integers(2))],
        }
        if not u % 7:
            del event["device"]  # older versions of the app did not send it
        if len(lines) == 33:
            event["user"]["id"] = None
        lines.append(json.dumps(event))
    half = rows // 2
    (folder / "events-1.jsonl").write_text("\n".join(lines[:half]) + "\n\n")
    (folder / "events-2.jsonl.gz").write_bytes(
        gzip.compress(("\n".join(lines[half:]) + "\n").encode(), mtime=0)
    )
    catalogue = [
        {
            "id": f"p{i}",
            "name": f"{['Lamp', 'Chair', 'Rug'][i % 3]} no. {i}",
            "about": f"A {['bright', 'soft', 'woven'][i % 3]} thing for every room of the house.",
            "genres": [["light", "glass"], ["wood"], ["wool", "soft"]][i % 3],
            "link": f"https://example.com/p{i}",
        }
        for i in range(30)
    ]
    (folder / "catalogue.json").write_text(json.dumps(catalogue, indent=1))
    return sorted({str(9000 + u) for u in user})


def write_warehouse(folder: Path, rows: int = 500, seed: int = 2) -> list[str]:
    """A Parquet log with a CSV catalogue: BOM, prices as "$1,299.00", HTML in titles.

    The members' file is tab separated; a README lies beside the data.
    """
    rng = np.random.default_rng(seed)
    user, item, fits = _pairs(rng, rows, 35, 45)
    at = np.cumsum(rng.integers(60, 40_000, rows))
    pl.DataFrame(
        {
            "member_id": pl.Series(user + 100).cast(pl.Float64),  # as pandas writes nullable ids
            "sku": [f"S-{i}" for i in item],
            "created_at": [START.replace(tzinfo=None) + timedelta(seconds=int(s)) for s in at],
            "clicked": rng.random(rows) < np.where(fits, 0.7, 0.2),
            "ordered": (rng.random(rows) < np.where(fits, 0.4, 0.05)).astype(np.int8),
            "dwell_seconds": np.round(rng.exponential(30, rows), 1),
            "weather": rng.choice(["sun", "rain"], rows),
        }
    ).with_columns(
        pl.when(pl.int_range(pl.len()) == 17).then(None).otherwise("member_id").alias("member_id")
    ).write_parquet(folder / "log.parquet")
    kinds = ["Kitchen &amp; Home", "Toys", "Garden &gt; Tools"]
    lines = ["sku,title,department,price,stock"]
    for i in range(45):
        price = f'"$1,{200 + i}.00"' if i % 5 == 0 else f"${9 + i}.50"
        price = "n/a" if i == 7 else price
        lines.append(
            f'S-{i},"Tom&#39;s {["pan", "ball", "rake"][i % 3]}, model {i} &amp; lid",'
            f"{kinds[i % 3]},{price},{i % 4}"
        )
    lines.append(lines[3])  # twice in the catalogue
    (folder / "products.csv").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    members = [
        "id\tage\tplan",
        *(f"{100 + u}\t{20 + u}\t{['free', 'paid'][u % 2]}" for u in range(35)),
    ]
    (folder / "members.tsv").write_text("\n".join(members) + "\n")
    (folder / "README.txt").write_text("Dump of the warehouse, do not edit.\n")
    return sorted({str(u + 100) for u in user})


STRANGERS = {"bookshop": write_bookshop, "app": write_app, "warehouse": write_warehouse}
