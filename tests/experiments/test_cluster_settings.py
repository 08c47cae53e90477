"""What the head `cluster` takes and refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aqua_jax.control import errors
from aqua_jax.experiments import cluster_settings as settings
from aqua_jax.simulation import items

TEXT = settings.TextMemberSettings(model="CodeLlama-34B")


def test_phases_are_read_in_order():
    made = settings.ItemMemberSettings(model="SDXL", phases="60:0.1, 120:2,130:0")
    assert made.phase_values() == [
        items.Phase(60.0, 0.1),
        items.Phase(120.0, 2.0),
        items.Phase(130.0, 0.0),
    ]
    assert settings.ItemMemberSettings(model="SDXL", phases="").phase_values() == []


@pytest.mark.parametrize("phases", ["60", "60:x", "60:1,50:1", "0:1", "60:-1", "inf:1", "60:nan"])
def test_a_phase_that_is_none_is_refused(phases: str):
    with pytest.raises(errors.ConfigError, match="is no phase; give SECOND:ITEMS_A_SECOND"):
        settings.ItemMemberSettings(model="SDXL", phases=phases)


def test_shares_are_of_routes():
    other = settings.TextMemberSettings(model="Llama-3.1-8B", route="chat", share=0.5)
    made = settings.ClusterSettings(servers=1, texts={"a": TEXT, "b": TEXT, "c": other})
    assert made.shares == {"text": 1.0, "chat": 0.5}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"servers": -1}, "servers"),
        ({"routing": "least"}, "cluster.routing"),
        ({"servers": 1, "texts": {}}, "cluster.texts is empty"),
        (
            {"items": {"a": settings.ItemMemberSettings(model="SDXL", phases="")}},
            "both have 'a'",
        ),
        (
            {"texts": {"a": TEXT, "b": settings.TextMemberSettings(model="x", share=2.0)}},
            "engines of route 'text' have shares",
        ),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, Any], text: str):
    with pytest.raises(errors.ConfigError, match=text):
        dataclasses.replace(settings.ClusterSettings(texts={"a": TEXT}), **changes)
