"""Keeps pytest from importing what needs torch and transformers, which no test does."""

from __future__ import annotations

collect_ignore = ["compare.py", "make_goldens.py", "make_processors.py", "reference.py"]
