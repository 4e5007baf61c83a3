"""The words of the generated shop: what is sold, under which names, and what it is like.

Every product type has names that items use from the first day (`early`) and names that only
items launched after the training time use (`late`). The two lists share no word, so a model that
knows spellings is lost on late items and one that knows meanings is not.

Traits are six axes between -2 and 2: active, tech, cosy, elegant, playful, natural. They make the
factors of close meanings close. Price is a typical one, in the shop's currency.
"""

from dataclasses import dataclass

TRAITS = ("active", "tech", "cosy", "elegant", "playful", "natural")


@dataclass(frozen=True)
class Kind:
    """One product type: its names, its traits (in the order of TRAITS) and its usual price."""

    early: tuple[str, ...]
    late: tuple[str, ...]
    traits: tuple[int, int, int, int, int, int]
    price: float


def _kind(early: str, late: str, traits: tuple[int, int, int, int, int, int], price: float) -> Kind:
    return Kind(tuple(early.split("/")), tuple(late.split("/")), traits, price)


CATALOGUE: dict[str, tuple[Kind, ...]] = {
    "Furniture": (
        _kind("sofa/settee", "couch", (-2, -1, 2, 1, 0, 0), 620),
        _kind("bookcase/library shelf/bookrack", "bookshelf", (-1, -1, 1, 0, -1, 1), 160),
        _kind("wardrobe/armoire", "clothes closet", (-1, -1, 0, 2, -1, 0), 380),
        _kind("writing table/study table/bureau", "desk", (0, 2, -1, 0, -2, 0), 240),
        _kind(
            "armchair/easy chair/lounge chair", "recliner/reclining seat", (-2, 0, 2, 1, 0, -1), 300
        ),
    ),
    "Decor": (
        _kind("lamp/lampshade", "floor light", (-1, 1, 2, 1, 0, 0), 55),
        _kind("rug/doormat", "carpet", (-1, -2, 2, 1, 0, 1), 120),
        _kind("curtains/drapes", "window blinds/draperies", (-1, 0, 1, 2, -1, -1), 70),
        _kind("blanket/duvet/bedspread", "comforter", (-2, -2, 2, 0, 1, 1), 48),
        _kind("painting/framed print", "wall art/artwork", (-1, -1, 0, 2, 1, 0), 90),
    ),
    "Electronics": (
        _kind(
            "laptop/ultrabook", "notebook computer/portable computer", (0, 2, -1, 0, -1, -2), 900
        ),
        _kind("headphones/earphones", "earbuds/headset", (1, 2, 0, -1, 1, -1), 110),
        _kind("smartphone/mobile phone", "cellphone/telephone", (0, 2, -2, 1, 0, -2), 520),
        _kind("television/TV", "HDTV/LCD screen", (-2, 2, 2, -1, 1, -2), 640),
        _kind("camera/webcam/camcorder", "DSLR", (1, 2, -1, 1, 0, 1), 480),
        _kind("loudspeaker/stereo", "speakers/audio system", (0, 2, 1, -1, 2, -1), 130),
    ),
    "Clothing": (
        _kind("jacket/raincoat", "coat/overcoat", (1, 0, 1, 0, -1, 1), 140),
        _kind("trousers/slacks", "pants/jeans", (0, -1, -1, 1, -2, 0), 58),
        _kind("sweater/sweatshirt", "hoodie/knitwear", (-1, -2, 2, 0, 0, 1), 62),
        _kind("dress/frock", "gown", (-1, -2, -1, 2, 1, 0), 98),
        _kind("pyjamas/sleepwear", "nightwear/nightgown", (-2, -1, 2, -1, 1, 0), 38),
        _kind("swimsuit/bikini", "bathing suit/swimwear", (2, -1, -2, 1, 1, 1), 44),
    ),
    "Accessories": (
        _kind("hiking pack/daypack", "backpack", (2, 0, -1, -2, 0, 1), 68),
        _kind("handbag/clutch", "purse", (-1, -1, -1, 2, 0, -1), 150),
        _kind("suitcase/trolley case", "luggage", (1, 0, -2, 1, -1, -1), 145),
        _kind("wristwatch/timepiece", "watch", (0, 1, -2, 2, -2, -1), 230),
        _kind("necklace/locket", "pendant", (-1, -2, -1, 2, 1, 0), 120),
        _kind("sunglasses/aviators", "tinted glasses/sun spectacles", (1, 0, -2, 1, 2, 1), 75),
    ),
    "Kitchen": (
        _kind("skillet/griddle", "frying pan", (0, -1, 1, -1, -1, 0), 42),
        _kind("coffee maker/percolator", "espresso machine", (-1, 1, 2, 1, -1, 0), 190),
        _kind("chef knife/kitchen knife", "cook's blade/cutlery blade", (1, -1, -1, 0, -2, 0), 60),
        _kind("refrigerator/icebox", "fridge/freezer", (-1, 2, 0, -1, -1, -1), 520),
        _kind("kettle/teapot", "water boiler", (-1, 0, 2, -1, 0, 1), 36),
    ),
    "Sports": (
        _kind("bicycle/tandem", "bike", (2, 1, -2, -1, 1, 1), 540),
        _kind("dumbbells/barbell", "kettlebells/hand weights", (2, 0, -1, -2, -1, -1), 50),
        _kind("yoga mat/exercise mat", "pilates pad", (1, -2, 1, 1, -1, 2), 30),
        _kind("tent/camping dome", "campsite shelter", (2, -1, 0, -2, 1, 2), 210),
        _kind("soccer ball/volleyball", "football", (2, -1, -1, -2, 2, 0), 26),
        _kind("fishing rod/fishing reel", "angling pole/trout tackle", (1, -1, 0, -1, 0, 2), 88),
    ),
    "Garden": (
        _kind("lawn mower/grass cutter", "lawnmower", (1, 1, 0, -2, -1, 1), 290),
        _kind("power drill/cordless drill", "electric screwdriver", (1, 2, -1, -2, -1, -1), 105),
        _kind("plant pot/flower pot", "flowerpot/planter", (-1, -2, 1, 1, 0, 2), 22),
        _kind("barbecue/rotisserie", "bbq/grill", (1, 0, 1, -1, 2, 0), 180),
        _kind("garden hose/watering hose", "hosepipe/irrigation pipe", (0, 0, -1, -2, 1, 2), 36),
    ),
    "Beauty": (
        _kind("perfume/cologne", "fragrance/scent", (-1, -1, 0, 2, 0, 0), 70),
        _kind("shampoo/hair wash", "scalp cleanser", (0, -1, 0, 0, 0, 2), 12),
        _kind("moisturiser/face cream", "skin lotion/facial balm", (-1, -1, 1, 1, -1, 2), 34),
        _kind("razor/beard trimmer", "shaver/shaving blade", (0, 2, -2, 0, -1, -1), 64),
        _kind("lipstick/eyeshadow", "mascara/makeup palette", (-1, 0, -1, 2, 2, -1), 38),
        _kind("toothbrush/dental brush", "teeth cleaner/oral cleaner", (0, 1, -2, -1, -1, 0), 18),
    ),
    "Toys": (
        _kind("stuffed animal/plush toy", "teddy bear", (-1, -2, 2, -1, 2, 0), 24),
        _kind("doll/puppet", "dollhouse figure/Barbie", (-1, -1, 0, 1, 2, -1), 27),
        _kind("toy car/race car", "miniature vehicle", (1, 1, -1, -1, 2, -1), 19),
        _kind("toy train/train set", "model railway/miniature railroad", (-1, 1, 1, 0, 1, 0), 85),
        _kind("building blocks/Lego set", "construction bricks", (0, 1, 0, -1, 2, -1), 46),
    ),
    "Media": (
        _kind("banjo/mandolin", "guitar", (1, -1, 1, 0, 2, 1), 220),
        _kind("digital piano/synthesizer", "keyboard instrument", (-1, 2, 1, 1, 1, -1), 560),
        _kind("novel/paperback", "fiction book/storybook", (-2, -1, 2, 0, 0, 0), 13),
        _kind("cookbook/recipe collection", "cooking manual", (-1, -1, 1, 0, -1, 2), 25),
        _kind("drums/drum kit", "percussion", (2, 0, -1, -2, 2, -1), 330),
        _kind("violin/cello", "viola", (-1, -1, 1, 2, -1, 1), 410),
    ),
    "Grocery": (
        _kind("pasta/macaroni", "spaghetti/noodles", (0, -1, 1, -1, 0, 0), 6),
        _kind("chocolate/chocolate bar", "cocoa bonbons/cocoa truffles", (-1, -1, 2, 1, 2, -1), 11),
        _kind("cheese/mozzarella", "cheddar", (-1, -2, 1, 1, -1, 1), 12),
        _kind("bread/baguette", "loaf", (0, -2, 1, -1, 0, 2), 5),
        _kind("mixed nuts/roasted almonds", "walnuts/peanuts", (2, -1, -1, -1, 0, 2), 10),
        _kind("granola/oatmeal", "porridge oats/oat flakes", (1, -1, 0, -2, -1, 2), 7),
    ),
}
CATEGORIES = tuple(CATALOGUE)
KINDS = tuple(kind for kinds in CATALOGUE.values() for kind in kinds)
KIND_CATEGORY = tuple(c for c, kinds in enumerate(CATALOGUE.values()) for _ in kinds)
