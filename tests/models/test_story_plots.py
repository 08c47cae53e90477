"""Sentences of stories: every slot is a choice, every plot has two in it."""

from __future__ import annotations

import pytest

from models import story_plots


@pytest.mark.parametrize("name", sorted(story_plots.PLOTS))
def test_every_slot_is_a_choice_and_a_friend_comes_into_it(name):
    slots = story_plots.PLOTS[name]
    assert len(slots) >= 4
    assert all(len(slot) > 1 and len(set(slot)) == len(slot) for slot in slots)
    sentences = [sentence for slot in slots for sentence in slot]
    assert any("{pal}" in sentence for sentence in sentences)
    assert any("{hero}" in sentence for sentence in sentences)
