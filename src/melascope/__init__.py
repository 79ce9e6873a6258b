"""Melascope finds melanoma in dermoscopic photographs. See the README; importing this is instant.

>>> import melascope
>>> assessment = melascope.assess("lesion.jpg")  # doctest: +SKIP
>>> assessment.decision, assessment.melanoma_probability  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melascope.bundle.catalogue import load_bundle as load_bundle
    from melascope.runtime.one import assess as assess

__version__ = "0.1.0"

_LAZY = {"load_bundle": "melascope.bundle.catalogue", "assess": "melascope.runtime.one"}

__all__ = ["__version__", "assess", "load_bundle"]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
