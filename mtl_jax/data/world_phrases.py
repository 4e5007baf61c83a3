"""The words of the generated shop: styles, brands and sentences (see `world_words` for types)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """A theme: adjectives and occasions of the first days, those of late items, and traits.

    Traits follow `world_words.TRAITS`. `weekend` is how much more it is wanted at weekends.
    """

    early: tuple[str, ...]
    late: tuple[str, ...]
    early_use: tuple[str, ...]
    late_use: tuple[str, ...]
    traits: tuple[int, int, int, int, int, int]
    weekend: float


def _style(
    words: tuple[str, str],
    uses: tuple[str, str],
    traits: tuple[int, int, int, int, int, int],
    weekend: float,
) -> Style:
    early, late, early_use, late_use = (tuple(w.split("/")) for w in (*words, *uses))
    return Style(early, late, early_use, late_use, traits, weekend)


STYLES: tuple[Style, ...] = (
    _style(
        ("rustic/farmhouse/country", "rural/cottagecore/barn-inspired"),
        ("life on the farm/your country home", "village living/log cabins"),
        (0, -2, 2, -1, 0, 2),
        0.6,
    ),
    _style(
        ("minimalist/simple/clean-lined", "pared-back/uncluttered/plain"),
        ("those who want less/bare rooms", "tidy Scandinavian spaces/fans of plainness"),
        (0, 1, -1, 1, -2, 0),
        -0.7,
    ),
    _style(
        ("luxury/opulent/deluxe/expensive", "lavish/high-end/upscale"),
        ("the finest taste/the rich and famous", "wealthy connoisseurs/glamorous millionaires"),
        (-1, 0, 0, 2, -1, -1),
        -0.2,
    ),
    _style(
        ("outdoor/adventure/wilderness", "backcountry/expedition/rugged"),
        ("days in the mountains/the great outdoors", "forest trails/explorers of wild nature"),
        (2, -1, 0, -1, 1, 2),
        1.2,
    ),
    _style(
        ("kids/children/junior", "toddler/youngster/preschool"),
        ("girls/boys/the playroom", "little ones/nursery pupils"),
        (1, -1, 1, -1, 2, 0),
        0.9,
    ),
    _style(
        ("gaming/gamer/video game", "esports/console player/PlayStation"),
        ("online gamers/long game nights", "Xbox streamers/Nintendo tournaments"),
        (-1, 2, 0, -1, 2, -2),
        0.5,
    ),
    _style(
        ("vegan/plant-based/meatless", "vegetarian/meat-free/dairy-free"),
        ("vegans/plant diets", "herbivores/ethical vegetarians"),
        (0, -1, -1, 0, 0, 2),
        -0.3,
    ),
    _style(
        ("travel/holiday/tourist", "vacation/globetrotter/backpacking"),
        ("flights and holidays/trips abroad", "vacations overseas/airport journeys"),
        (1, 1, -2, 1, 1, 0),
        0.3,
    ),
    _style(
        ("fitness/workout/sporty", "gym/athletic/bodybuilding"),
        ("sport and exercise/your daily workout", "gym training/athletes"),
        (2, 0, -2, -1, -1, 0),
        -0.6,
    ),
    _style(
        ("office/business/executive", "corporate/workplace/managerial"),
        ("the working day/meetings at the office", "corporate careers/boardroom staff"),
        (-1, 2, -2, 1, -2, -1),
        -1.3,
    ),
    _style(
        ("vintage/retro/1950s", "antique/old-fashioned/nostalgic"),
        ("fifties enthusiasts/retro collectors", "antique hunters/longing for old times"),
        (-1, -2, 1, 1, 0, 0),
        0.1,
    ),
    _style(
        ("romantic/wedding/valentine", "bridal/love-themed/honeymoon"),
        ("romantic evenings/weddings", "brides/loving couples"),
        (-1, -1, 1, 2, 0, 0),
        -0.5,
    ),
)

# Invented names; the number is the tier: 0 value, 1 middle, 2 premium.
BRANDS: tuple[tuple[str, int], ...] = (
    ("Brisko", 0), ("Tallow", 0), ("Mendip", 0), ("Quayle", 0), ("Hobbin", 0), ("Zedra", 0),
    ("Pellow", 0), ("Okarin", 0), ("Fintry", 0), ("Dunmar", 0), ("Lowick", 0), ("Sarno", 0),
    ("Arvell", 1), ("Kestrin", 1), ("Morvane", 1), ("Tressel", 1), ("Yarrick", 1), ("Ostley", 1),
    ("Belmire", 1), ("Corvex", 1), ("Ludlen", 1), ("Nimbry", 1), ("Hartov", 1), ("Selwin", 1),
    ("Aurelane", 2), ("Vaucort", 2), ("Chiltern", 2), ("Monterac", 2), ("Delacy", 2),
    ("Windermar", 2),
)  # fmt: skip
COLOURS = ("black", "white", "grey", "blue", "green", "red", "beige", "navy", "brown", "pink")
VARIATIONS = ("", "", "", " II", " 2-pack", " set", " small", " large")

# {a} and {b} are two names of the style, {kind} a name of the type, {use} an occasion. None of the
# sentences says anything about type or style by itself.
SENTENCES: tuple[str, ...] = (
    "Our {a} {kind} in {colour}, made for {use}.",
    "From {brand}: {kind} with {a} character, suited to {use}.",
    "The {a} {kind} in {colour}: just right for {use}.",
    "{brand} brings you {kind} with {a} appeal, chosen for {use}.",
    "Looking for something {a}? See this {kind}, meant for {use}.",
)
EXTRAS: tuple[str, ...] = (
    "",
    "",
    " Truly {b}, and it comes with a two-year warranty.",
    " Customers call it {b} and well made.",
    " Carefully finished in {colour}; delivered within three days in a recycled box.",
    " A {b} choice that {brand} has improved over several seasons, tested and backed by service.",
)
