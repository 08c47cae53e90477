"""The grammar: the same stories by seed, whole, in agreement, different from each other."""

from __future__ import annotations

import itertools
import re

from models import stories

STORIES = list(itertools.islice(stories.stories(0), 2000))
NAMES = {*stories.GIRLS, *stories.BOYS}


def test_a_seed_tells_the_same_stories_again():
    assert list(itertools.islice(stories.stories(0), 5)) == STORIES[:5]
    assert list(itertools.islice(stories.stories(1), 5)) != STORIES[:5]


def test_hardly_two_are_the_same_and_none_is_too_long_for_a_sequence():
    assert len({story.text for story in STORIES}) > 0.999 * len(STORIES)
    assert max(len(story.text) for story in STORIES) < 512
    assert min(len(story.text) for story in STORIES) > 64


def test_sentences_are_whole():
    for story in STORIES:
        assert not re.search(r"[{}]|  |\.\.", story.text), story.text
        assert story.text.count('"') % 2 == 0, story.text
        assert re.search(r'[.!?]"?$', story.text), story.text
        assert story.text[0].isupper()


def test_a_story_has_two_names_at_most_and_its_request_names_them():
    for story in STORIES:
        named = set(re.findall(r"[A-Z]\w+", story.text)) & NAMES
        asked = set(re.findall(r"[A-Z]\w+", story.about)) & NAMES
        assert 1 <= len(named) <= 2
        assert asked <= named or len(asked) == 2


def test_pronouns_agree_with_the_hero():
    girls = [s.text for s in STORIES if re.search(r"a \w+ girl (named|called)", s.text)]
    assert girls
    lonely = [text for text in girls if not any(boy in text for boy in stories.BOYS)]
    wrong = [text for text in lonely if re.search(r"\b[Hh]e (ran|had|looked|wanted)\b", text)]
    assert not wrong


def test_every_sum_is_right():
    numbers = {word: number for number, word in enumerate(stories.NUMBERS)}
    for one in itertools.islice(stories.sums(0), 500):
        left, sign, right, made = re.fullmatch(
            r"(\w+) (plus|minus) (\w+) is (\w+)\.", one.text.lower()
        ).groups()
        signed = numbers[right] if sign == "plus" else -numbers[right]
        assert numbers[left] + signed == numbers[made]
        assert one.about.lower() == f"what is {left} {sign} {right}?"


def test_sums_within_stories_are_right():
    numbers = {word: number for number, word in enumerate(stories.NUMBERS)}
    found = [re.search(r'"(\w+) and (\w+) make (\w+)', story.text) for story in STORIES]
    told = [match.groups() for match in found if match]
    assert told
    for one, other, both in told:
        assert numbers[one.lower()] + numbers[other] == numbers[both]
