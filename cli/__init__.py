"""The command line. ``main.py`` lists the commands; each is defined in the module that ``main.py`` names."""

from .main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
