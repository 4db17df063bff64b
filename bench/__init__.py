"""Measurements; see ``python -m bench``."""
