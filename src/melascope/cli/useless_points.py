"""A weak model reaches a target only by referring everybody, or nobody: that is told, not left to be noticed."""

from __future__ import annotations

from collections.abc import Iterable

import click

from melascope.decision.operating_point import OperatingPoint

_LEAST = 0.05  #: share of the melanomas found, and of the other lesions spared, below which a point decides nothing


def warn_of_useless_points(points: Iterable[OperatingPoint]) -> None:
    """Say on stderr which operating points refer next to everybody or nobody, as they were fitted."""
    for point in points:
        if point.threshold <= 0 or point.specificity < _LEAST:
            told = f"spares {point.specificity:.1%} of the other lesions: it refers next to everybody"
        elif point.sensitivity < _LEAST:
            told = f"finds {point.sensitivity:.1%} of the melanomas: it refers next to nobody"
        else:
            continue
        click.echo(
            f"melascope: warning: the operating point {point.name} (threshold {point.threshold:.4f}) {told}.",
            err=True,
        )
