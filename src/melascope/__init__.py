"""Melascope finds melanoma in dermoscopic photographs. See the README; importing this is instant."""

from __future__ import annotations

__version__ = "0.1.0"
