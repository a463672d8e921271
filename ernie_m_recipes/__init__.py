"""The `ernie-m` command: finds, checks, runs and exports the recipes."""

__version__ = "0.1.0"
