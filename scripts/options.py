"""What may stand behind a script's name: its docstring tells, and is what --help says."""

from __future__ import annotations

import argparse
import sys


def parser() -> argparse.ArgumentParser:
    """A parser for the running script, to which it adds its options; abbreviations are not accepted, and an unexpected
    argument ends the script with a sentence."""
    return argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def chosen(*options: str) -> str:
    """For a script that takes at most one of these options. Returns: the given one; empty if there is none."""
    words = parser()
    group = words.add_mutually_exclusive_group()
    for option in options:
        group.add_argument(option, dest="chosen", action="store_const", const=option, default="")
    return str(words.parse_args().chosen)
