"""Short stories out of a grammar: what the small model of the repository is trained on.

Knows: words, agreement of names and pronouns, what follows from what, small sums in words. Does
not know: models, tokens. Same seed, same stories, on any machine.

A story is an opening, a plot and an ending (`story_plots.py`), whose fields are drawn once a story,
so that names, things and pronouns agree throughout.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from models import story_plots

GIRLS = (
    "Anna", "Lily", "Mia", "Rosa", "Nora", "Ella", "Ivy", "Clara", "Zoe", "Tess", "Ruth", "June",
    "Greta", "Maya", "Hanna", "Dora",
)  # fmt: skip
BOYS = (
    "Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Otto", "Hugo", "Paul", "Jack", "Noah", "Emil",
    "Karl", "Theo", "Luca", "Pip",
)  # fmt: skip
ANIMALS = ("fox", "rabbit", "bear", "mouse", "duck", "hedgehog", "squirrel", "frog", "goat", "cat")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
)  # fmt: skip
WORDS = {
    "trait": (
        "small", "brave", "shy", "clever", "kind", "lazy", "proud", "quiet", "merry", "young",
    ),
    "colour": ("red", "blue", "green", "yellow", "white", "silver", "brown", "golden"),
    "toy": ("ball", "kite", "drum", "hat", "scarf", "boat", "bell", "lamp", "book", "whistle"),
    "precious": ("cup", "vase", "clock", "mirror", "plate", "lantern", "teapot", "window"),
    "spot": (
        "under the bed", "behind the door", "in the tall grass", "under a big leaf",
        "on top of the shelf", "next to the well", "inside a boot", "behind a rock",
    ),
    "wrong": (
        "an old shoe", "a dry leaf", "two sleepy snails", "a button", "some dust", "a long feather",
        "a spider", "a broken spoon",
    ),
    "food": ("cake", "pie", "soup", "bread", "pudding", "stew"),
    "good": ("flour", "honey", "milk", "butter", "salt", "cheese"),
    "fruit": ("apples", "pears", "plums", "berries", "nuts", "carrots", "cherries", "eggs"),
    "fear": ("the dark", "thunder", "deep water", "the big dog", "high places", "the old mill"),
    "baby": ("bird", "lamb", "kitten", "puppy", "duckling", "turtle"),
    "trap": (
        "in the mud", "in a deep hole", "behind a fence", "under a branch", "on a thin branch",
    ),
    "tool": ("a rope", "a long stick", "a basket", "a ladder", "a blanket", "a board"),
    "plant": ("sunflower", "pumpkin", "bean", "rose", "tree", "tulip"),
    "day": ("morning", "day", "evening", "summer day", "winter day", "Sunday"),
    "season": ("spring", "summer", "autumn", "winter"),
    "mood": ("happy", "glad", "proud", "cheerful"),
    "song": ("song", "tune", "dance", "poem", "joke", "trick"),
}  # fmt: skip
PLACES = (  # where somebody goes, and where somebody is then
    ("the forest", "in the forest"), ("the garden", "in the garden"), ("the river", "by the river"),
    ("the hill", "on the hill"), ("the market", "at the market"), ("the lake", "by the lake"),
    ("the village", "in the village"), ("the meadow", "in the meadow"),
    ("the harbour", "at the harbour"), ("the school", "at the school"),
)  # fmt: skip
ELDERS = (
    ("mother", "she"), ("father", "he"), ("grandmother", "she"), ("grandfather", "he"),
    ("teacher", "she"), ("uncle", "he"), ("aunt", "she"), ("neighbour", "he"),
)  # fmt: skip

# What the weather makes of somebody who is out in it.
WEATHER = (
    ("It rained all day", "{His} coat was soon wet, so {he} ran under a tree."),
    ("The sun was hot", "{He} was thirsty, so {he} drank some cold water."),
    ("Snow was falling", "{His} hands were cold, so {he} put on warm gloves."),
    ("The wind was strong", "{His} hat flew away, and {he} had to run after it."),
    ("Fog lay over the fields", "{He} could not see far, so {he} walked slowly."),
    ("The night was clear", "{He} could see the moon and a thousand stars."),
)


class Story(NamedTuple):
    """One story. about: what a reader might have asked for; text: the story itself."""

    about: str
    text: str


def stories(seed: int) -> Iterator[Story]:
    """Stories without end, each with its request."""
    rng = random.Random(seed)
    while True:
        yield _story(rng)


def sums(seed: int) -> Iterator[Story]:
    """Small sums in words, as question and answer, without end."""
    rng = random.Random(seed)
    while True:
        fields = _numbers(rng)
        if rng.random() < 0.5:
            asked, answer = "What is {n} plus {m}?", "{N} plus {m} is {sum}."
        else:
            asked, answer = "What is {sum} minus {m}?", "{Sum} minus {m} is {n}."
        yield Story(asked.format(**fields), answer.format(**fields))


def _story(rng: random.Random) -> Story:
    name = rng.choice(sorted(story_plots.PLOTS))
    fields = _fields(rng)
    slots: Sequence[Sequence[str]] = (
        story_plots.OPENINGS,
        *story_plots.PLOTS[name],
        story_plots.ENDINGS,
    )
    text = " ".join(filter(None, (rng.choice(slot).format(**fields) for slot in slots)))
    asked = rng.choice(
        (
            "Tell me a story about {hero}.",
            "Tell me a story about {hero} and {pal}.",
            "Please tell me a story about a {kind} named {hero}.",
        )
    )
    return Story(asked.format(**fields), text)


def _fields(rng: random.Random) -> dict[str, str]:
    """Every field of a story, drawn so that no two that should differ are the same."""
    fields = {name: rng.choice(words) for name, words in WORDS.items()}
    fields["spot"], fields["spot2"] = rng.sample(WORDS["spot"], 2)
    fields["day"], fields["day2"] = rng.sample(WORDS["day"], 2)
    (fields["place"], fields["at"]), (fields["place2"], fields["at2"]) = rng.sample(PLACES, 2)
    fields["elder"], elder_he = rng.choice(ELDERS)
    fields["elder_he"], fields["Elder_he"] = elder_he, elder_he.capitalize()
    fields |= _hero(rng) | _pal(rng) | _numbers(rng)
    while fields["pal"] == fields["hero"]:
        fields |= _pal(rng)
    weather, effect = rng.choice(WEATHER)
    return fields | {"weather": weather, "effect": effect.format(**fields)}


def _hero(rng: random.Random) -> dict[str, str]:
    is_girl = rng.random() < 0.5
    child = "girl" if is_girl else "boy"
    he, him, his = ("she", "her", "her") if is_girl else ("he", "him", "his")
    return {
        "hero": rng.choice(GIRLS if is_girl else BOYS),
        "kind": child if rng.random() < 0.6 else rng.choice(ANIMALS),
        "he": he,
        "him": him,
        "his": his,
        "He": he.capitalize(),
        "His": his.capitalize(),
    }


def _pal(rng: random.Random) -> dict[str, str]:
    is_girl = rng.random() < 0.5
    he, him, his = ("she", "her", "her") if is_girl else ("he", "him", "his")
    return {
        "pal": rng.choice(GIRLS if is_girl else BOYS),
        "pal_he": he,
        "pal_him": him,
        "pal_his": his,
    }


def _numbers(rng: random.Random) -> dict[str, str]:
    """n + m = sum, sum - k = left, all from one to twenty, in words."""
    n, m = rng.randint(2, 10), rng.randint(2, 10)
    k = rng.randint(2, n + m - 2)
    words = {"n": n, "m": m, "sum": n + m, "k": k, "left": n + m - k}
    fields = {name: NUMBERS[number] for name, number in words.items()}
    return fields | {"N": fields["n"].capitalize(), "Sum": fields["sum"].capitalize()}
