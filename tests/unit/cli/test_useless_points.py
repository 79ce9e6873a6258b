"""An operating point that decides nothing is told."""

from __future__ import annotations

import pytest

from melascope.cli.useless_points import warn_of_useless_points
from melascope.decision.operating_point import OperatingPoint


def test_a_point_that_refers_everybody_or_nobody_is_named(
    capsys: pytest.CaptureFixture[str], tiny_bundle
) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    sound: OperatingPoint = tiny_bundle.manifest.operating_points[0]
    warn_of_useless_points(tiny_bundle.manifest.operating_points)
    assert capsys.readouterr().err == ""
    warn_of_useless_points(
        [
            replace(sound, name="all", threshold=0.0),
            sound,
            replace(sound, name="most", specificity=0.049, specificity_interval=(0.04, 0.06)),
            replace(sound, name="none", sensitivity=0.02, sensitivity_interval=(0.01, 0.06)),
        ]
    )
    told = capsys.readouterr().err.splitlines()
    assert [line.split("operating point ")[1].split(" ")[0] for line in told] == ["all", "most", "none"]
    assert "next to everybody" in told[0]
    assert "spares 4.9% of the other lesions" in told[1]
    assert "finds 2.0% of the melanomas" in told[2]
