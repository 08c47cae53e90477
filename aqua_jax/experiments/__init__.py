"""Experiments: settings, arms, and runs that leave a report."""
