"""Policies: one short file each; `base.py` says what a policy decides."""
