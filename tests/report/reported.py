"""Runs for a report, with hostile names and texts, and the command that makes it."""

import numpy as np

from nofrost_jax.report import __main__ as command
from tests.report import made

NASTY = "<script>alert(1)</script> \"'&amp;{{ 7*7 }}\u202e\x1b[31m"
NASTY_ATTACK = "x|y <img src=x onerror=1> [a](javascript:1)"


def run(folder, row, counts, flags=(), n=200, **fields):
    clean, *robust = counts
    names = ("pgd_20", "aa_fast_20", "aa_standard", NASTY_ATTACK)
    attacks = [made.attack(name, count, n, flags=flags) for name, count in zip(names, robust, strict=False)]
    columns = {name: np.arange(n) < count for name, count in zip(names, robust, strict=False)}
    result = made.result(made.net(row), clean, attacks, n, sha=str(folder), **fields)
    made.write(folder, result, made.arrays(np.arange(n) < clean, **columns))


def call(*arguments):
    """The exit code of the command."""
    try:
        command.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0
