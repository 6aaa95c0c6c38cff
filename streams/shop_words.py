"""The words of the simulated shop: what it sells, in which styles, and how people talk about it.

A style is a handful of words that its items are described with and that reviews of them repeat; so texts about items of one style
lie close together for any reasonable text encoder, and apart from the other styles of the same category.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Category(Struct, frozen=True):
    """A shelf of the shop: what a single thing on it is called, and its styles, each with five words that describe it."""

    name: str
    thing: str
    styles: dict[str, tuple[str, str, str, str, str]]


CATEGORIES: Final = (
    Category("tents", "tent", {
        "ultralight": ("featherweight", "packable", "thru-hiking", "minimalist", "dyneema"),
        "family": ("roomy", "standing-height", "two-bedroom", "campsite", "kid-friendly"),
        "expedition": ("storm-proof", "alpine", "snow-loaded", "geodesic", "four-season"),
        "festival": ("pop-up", "cheap", "colourful", "weekend", "blackout"),
    }),
    Category("coffee", "coffee", {
        "light roast": ("floral", "citrusy", "tea-like", "bright", "jasmine"),
        "espresso": ("chocolatey", "syrupy", "crema", "bold", "caramelised"),
        "decaf": ("mellow", "evening", "caffeine-free", "gentle", "nutty"),
        "wild natural": ("fermented", "winey", "blueberry", "funky", "anaerobic"),
    }),
    Category("running shoes", "shoe", {
        "trail": ("muddy", "grippy", "lugged", "mountain", "rock-plated"),
        "marathon racing": ("carbon-plated", "explosive", "race-day", "supercritical", "fast"),
        "daily cushioning": ("plush", "soft", "recovery", "long-slow", "comfortable"),
        "barefoot": ("zero-drop", "flexible", "wide-toe", "ground-feel", "natural"),
    }),
    Category("headphones", "headphone", {
        "studio": ("neutral", "reference", "analytical", "open-back", "mixing"),
        "commuter": ("noise-cancelling", "foldable", "wireless", "travel", "train"),
        "bass": ("thumping", "club", "rumbling", "subwoofer", "party"),
        "sport": ("sweat-proof", "earhook", "gym", "secure", "workout"),
    }),
    Category("board games", "game", {
        "cooperative": ("together", "teamwork", "puzzle-solving", "shared", "allies"),
        "war strategy": ("conquest", "armies", "hex-map", "tactical", "battle"),
        "party": ("hilarious", "bluffing", "loud", "quick", "drinking"),
        "euro economy": ("engine-building", "trading", "resources", "farming", "victory-points"),
    }),
    Category("garden", "plant", {
        "vegetable": ("edible", "tomato", "harvest", "raised-bed", "heirloom"),
        "succulent": ("desert", "drought-proof", "cactus", "windowsill", "spiny"),
        "shade": ("fern", "woodland", "mossy", "north-facing", "leafy"),
        "pollinator": ("bees", "wildflower", "meadow", "butterfly", "nectar"),
    }),
    Category("books", "novel", {
        "space opera": ("galactic", "starship", "alien", "interstellar", "empire"),
        "cosy mystery": ("village", "amateur-sleuth", "teapot", "whodunit", "vicarage"),
        "romance": ("yearning", "slow-burn", "heartfelt", "tender", "kiss"),
        "horror": ("haunted", "dread", "creeping", "gothic", "blood-soaked"),
    }),
    Category("kitchen", "pan", {
        "cast iron": ("seasoned", "searing", "heavy", "campfire", "rustic"),
        "induction": ("stainless", "clad", "professional", "responsive", "polished"),
        "wok": ("stir-fry", "wok-hei", "carbon-steel", "smoky", "sichuan"),
        "baking": ("cake", "non-stick", "pastry", "muffin", "sourdough"),
    }),
    Category("guitars", "guitar", {
        "metal": ("high-gain", "shredding", "seven-string", "distorted", "djent"),
        "jazz": ("archtop", "hollow-body", "warm", "swing", "flatwound"),
        "folk": ("fingerpicking", "cedar", "acoustic", "campfire-song", "parlour"),
        "surf": ("twangy", "reverb-drenched", "tremolo", "vintage", "beachy"),
    }),
    Category("bicycles", "bike", {
        "gravel": ("dusty", "bikepacking", "all-road", "adventure", "tubeless"),
        "downhill": ("full-suspension", "jumps", "bike-park", "long-travel", "gnarly"),
        "city": ("upright", "basket", "step-through", "commuting", "mudguards"),
        "cargo": ("children", "hauling", "electric-assist", "groceries", "longtail"),
    }),
    Category("skincare", "cream", {
        "sensitive": ("fragrance-free", "soothing", "ceramide", "redness", "barrier"),
        "anti-ageing": ("retinol", "wrinkle", "firming", "peptide", "night"),
        "sunscreen": ("spf", "mineral", "beach", "uv", "reef-safe"),
        "acne": ("salicylic", "blemish", "oil-free", "pore", "clearing"),
    }),
    Category("cameras", "camera", {
        "street": ("pocketable", "candid", "silent", "black-and-white", "discreet"),
        "wildlife": ("telephoto", "burst", "birding", "safari", "autofocus"),
        "analog": ("film", "grainy", "darkroom", "mechanical", "35mm"),
        "vlogging": ("flip-screen", "stabilised", "selfie", "microphone", "streaming"),
    }),
)  # fmt: skip

BRANDS: Final = (
    "Alder", "Borealis", "Cinder", "Dovetail", "Ember", "Fjord", "Garnet", "Harbour", "Isla", "Juniper", "Kestrel", "Lumen",
    "Meridian", "Nordlys", "Osprey", "Pinyon", "Quarry", "Rowan", "Sable", "Tamarack", "Umber", "Vesper", "Willow", "Yarrow",
    "Zephyr",
)  # fmt: skip

DESCRIPTIONS: Final = (
    "A {style} {thing} from {brand}: {a}, {b} and {c}.",
    "{brand} makes this {style} {thing} for people who want it {a} and {b}. Also {c}.",
    "{a}, {b}, {c}: the {style} {thing} by {brand}.",
)

PRAISE: Final = (
    "Exactly what I was after: {a} and {b}. If you like a {style} {thing}, this is the one.",
    "I own several {style} ones and this {thing} is the best. So {a}, really {b}.",
    "Wonderful {thing}. {a}, {b}, everything a {style} {thing} should be. Buying it again.",
    "Been looking for something {a} for ages. Very {b} too, and well made.",
)
FAIR: Final = (
    "A decent {thing}. It is {a}, though I hoped for something more {other}.",
    "All right for a {style} {thing}. {a} enough, could be more {b}.",
    "Does the job. {a}, but I have had better {style} ones.",
)
BLAME: Final = (
    "Not for me. Too {a}, and I wanted something {other}. It went back.",
    "Disappointed by this {thing}: it is sold as {a}, and I simply prefer {other} ones.",
    "I do not understand the fuss about {style} {thing}s. {other} would have been my choice.",
)
TITLES: Final = {
    1: ("Sent it back", "Regret it"),
    2: ("Not my taste", "Meh"),
    3: ("It is fine", "Average"),
    4: ("Really good", "Happy with it"),
    5: ("Love it", "Perfect", "The best {style} {thing}"),
}
