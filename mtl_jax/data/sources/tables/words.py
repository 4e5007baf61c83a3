"""The words that columns' names are guessed by."""

import re

USER = {
    "user", "uid", "userid", "customer", "customerid", "member", "visitor", "visitorid", "buyer",
    "client", "reviewer", "reviewerid", "account", "shopper", "person", "reader", "listener",
    "viewer", "subscriber", "guest", "player", "session", "usr", "author", "kunde", "kunden",
    "nutzer", "用户", "会员", "客户", "benutzer", "cliente", "usuario", "utilisateur", "klant",
}  # fmt: skip
ITEM = {
    "item", "iid", "itemid", "sku", "product", "productid", "asin", "movie", "movieid", "video",
    "videoid", "article", "articleid", "news", "book", "isbn", "song", "track", "recipe", "poi",
    "business", "ad", "post", "goods", "offer", "listing", "film", "app", "game", "course",
    "restaurant", "hotel", "dish", "beer", "document", "doc", "photo", "anime", "podcast",
    "artikel", "produkt", "produit", "producto", "articulo",
    "商品", "物品", "产品", "视频", "电影", "文章",
}  # fmt: skip
KEY = {
    "id", "no", "key", "code", "uuid", "hash", "number", "nr", "num", "idx", "index", "ref",
    "email", "mail", "login", "handle",
}  # fmt: skip
NAMES = {"id", "uuid", "hash", "key", "idx", "index"}  # a number that is called so counts nothing
EITHER = {"duration", "score", "grade", "hours", "note"}  # an outcome, or what an item is
TIME = {
    "time", "ts", "timestamp", "date", "datetime", "created", "at", "day", "when", "utc", "epoch",
    "moment", "zeit", "datum", "fecha", "occurred", "logged", "时间", "日期",
}  # fmt: skip
SPLIT = {"split", "part", "subset", "partition", "set"}
BEHAVIOUR = {"behaviour", "behavior", "action", "event", "type", "kind", "interaction", "activity"}
PASSIVE = {  # what the shop does or what all else begins with; not worth a task of its own
    "view", "views", "viewed", "pv", "pageview", "page_view", "visit", "open", "detail",
    "detail_view", "view_item", "browse", "seen",
}  # fmt: skip
SHOWN = {"impression", "impressions", "show", "shown", "expose", "exposure", "exposed", "display"}
ACTS = {
    "click", "cart", "add_to_cart", "addtocart", "add", "fav", "favorite", "favourite", "buy",
    "purchase", "order", "transaction", "like", "share", "follow", "comment", "save", "bookmark",
    "play", "watch", "download", "install", "remove_from_cart", "wishlist", "dislike", "skip",
}  # fmt: skip
OUTCOME = {
    "click", "clicked", "clicks", "like", "liked", "rating", "ratings", "stars", "star", "score",
    "grade", "purchase", "purchased", "buy", "bought", "order", "ordered", "cart", "fav",
    "favorite", "favourite", "share", "shared", "follow", "followed", "comment", "commented",
    "watch", "watched", "dwell", "duration", "spent", "playtime", "label", "target", "conversion",
    "converted", "returned", "return", "finished", "finish", "completed", "hate", "dislike",
    "helpful", "vote", "votes", "overall", "quantity", "qty", "sentiment", "bewertung", "note",
    "install", "download", "saved", "skip", "skipped", "hours", "review_score", "forward", "enter",
    "stay", "y", "点击", "购买", "评分", "喜欢", "收藏",
}  # fmt: skip
GRADES = {
    "rating", "ratings", "stars", "star", "score", "grade", "overall", "bewertung", "note", "评分",
}  # fmt: skip
TITLE = {"标题", "名称", "title", "name", "headline", "caption", "heading", "titel", "label"}
TEXT = {
    "description", "summary", "plot", "overview", "text", "abstract", "body", "content", "tagline",
    "subtitle", "review", "about", "details", "beschreibung", "keywords", "synopsis", "comment",
}  # fmt: skip
CATEGORY = {"类别", "分类", 
    "category", "categories", "cat", "genre", "genres", "department", "section", "topic", "class",
    "cuisine", "group", "kategorie", "type", "rubric", "domain",
}  # fmt: skip
TAGS = {"tags", "tag", "genres", "categories", "keywords", "labels", "topics", "tokens"}
SCENARIO = {
    "scenario", "scene", "tab", "channel", "surface", "placement", "domain", "page", "slot",
    "store", "shop",
}  # fmt: skip


def tokens(name: str) -> list[str]:
    """The words of a column's name: ["user", "id"] of "userId", "user_id", "user.id"."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [part for token in re.split(r"[\W_]+", split) if token for part in _parts(token.lower())]


def _parts(token: str) -> list[str]:
    """["kunden", "nr"] of "kundennr": a key's word at the end of one that names a user or item."""
    for key in KEY:
        if token.endswith(key) and token not in USER | ITEM and token[: -len(key)] in USER | ITEM:
            return [token[: -len(key)], key]
    return [token]


def key_score(name: str, words: set[str]) -> int:
    """How much a name looks like the id of one of `words`.

    3 "user_id", 2 "user", 1 "user_name" (better than none), 0 "user_age".
    """
    found = tokens(name)
    if not found or not any(token in words for token in found):
        return 0
    rest = [token for token in found if token not in words]
    if not rest:
        return 2 if len(found) > 1 or found[0] not in {"author", "session"} else 1
    if set(rest) <= KEY:
        return 3
    if rest[-1] in KEY:
        return 2
    return int(rest == ["name"] or rest == ["title"])


def has(name: str, words: set[str]) -> bool:
    """Whether one of the name's words is among `words`."""
    return any(token in words for token in tokens(name)) or name.lower() in words
