"""natwalk connects two programs on any two machines over the best path there is, encrypted end to end."""

__version__ = "0.1.0"
