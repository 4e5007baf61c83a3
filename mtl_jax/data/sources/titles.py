"""Titles as MovieLens writes them, made readable."""

import re

_ARTICLES = (
    "The|A|An|La|Le|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Den|De|O|Os|Un|Une|Una"  # as they occur
)
# a part of a title (from the start or a bracket to a bracket or the end) that ends in an article
_TRAILING = re.compile(
    rf"(?P<open>^|\()(?P<name>[^()]+), (?P<article>{_ARTICLES})(?=\s*(?:\(|\)|$))"
)
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")


def split_year(title: str) -> tuple[str, str]:
    """("Matrix, The", "1999") of "Matrix, The (1999)"; the year is "" if there is none."""
    found = _YEAR.search(title)
    return (title[: found.start()].strip(), found.group(1)) if found else (title.strip(), "")


def readable(title: str) -> str:
    """The article first: "The Matrix" of "Matrix, The", "La Cage (The Cage)" likewise."""
    return _TRAILING.sub(_article_first, title)


def _article_first(found: re.Match[str]) -> str:
    article = found["article"]
    return found["open"] + article + ("" if article.endswith("'") else " ") + found["name"]


def decade(year: str) -> str | None:
    """The decade, as in "1990s" of "1994"; None of anything that is no year."""
    return f"{year[:3]}0s" if re.fullmatch(r"\d{4}", year) else None


def period(year: str) -> str | None:
    """The year itself from 1980 on, before it five years: "1975-1979" of "1977"; None of none."""
    if not re.fullmatch(r"\d{4}", year):
        return None
    first = int(year) // 5 * 5
    return year if int(year) >= 1980 else f"{first}-{first + 4}"
