"""`melascope doctor`: what is installed, which bundle answers, and whether it verifies."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from typing import Any, Literal

import click

from melascope import __version__
from melascope.errors import BundleError

_REQUIREMENT = re.compile(r"""^(?P<name>[A-Za-z0-9._-]+).*;.*\bextra\s*==\s*['"](?P<extra>[^'"]+)['"]""")


@click.command()
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(output: Literal["text", "json"]) -> int:
    """Tell what is installed, which bundle answers, whether it verifies, and which acceleration is in use.

    The exit status is 0 if images can be assessed, 6 if the bundle does not allow it.
    """
    findings = examine()
    if output == "json":
        click.echo(json.dumps(findings, indent=2))
    else:
        _print(findings)
    return 0 if findings["bundle"]["verifies"] else BundleError.exit_status


def examine() -> dict[str, Any]:
    """The findings, as JSON values."""
    return {
        "melascope": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
        "extras": {extra: _missing(packages) for extra, packages in _extras().items()},
        "heic_reader": _version("pi-heif"),
        "acceleration": _acceleration(),
        "bundle": _bundle(),
    }


def _extras() -> dict[str, list[str]]:
    """The packages of each extra, as this installation's metadata state them."""
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("melascope") or []:
        if (found := _REQUIREMENT.match(requirement)) and found["name"] != "melascope":
            extras.setdefault(found["extra"], []).append(found["name"])
    return extras


def _missing(packages: list[str]) -> list[str]:
    return [package for package in packages if _version(package) is None]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _acceleration() -> dict[str, Any]:
    import numpy as np

    from melascope.runtime.session import default_threads

    # The value of `mode` is what makes it return a dictionary instead of printing.
    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    return {
        "onnxruntime": _version("onnxruntime"),
        "machine": platform.machine(),
        "cpu_features": [*simd.get("baseline", []), *simd.get("found", [])],
        "threads": default_threads(),
    }


def _bundle() -> dict[str, Any]:
    """Which bundle answers, and a trial run of its network on one black image."""
    from melascope.bundle.catalogue import active, load_bundle

    try:
        chosen = active()
    except BundleError as fault:
        return {"verifies": False, "fault": str(fault)}
    findings: dict[str, Any] = {"reference": chosen.reference, "chosen_by": chosen.chosen_by}
    try:
        return {**findings, **_trial(load_bundle()), "verifies": True}
    except BundleError as fault:
        return {**findings, "verifies": False, "fault": str(fault)}


def _trial(bundle: Any) -> dict[str, Any]:
    from melascope.runtime.assessor import Assessor

    assessor = Assessor(bundle)
    network_ms = assessor.time_network_ms()
    return {
        "id": bundle.id,
        "execution_provider": assessor.session.provider,
        "threads": assessor.session.threads,
        "network_ms_per_image": round(network_ms, 1),
    }


def _print(findings: dict[str, Any]) -> None:
    acceleration, bundle = findings["acceleration"], findings["bundle"]
    lines = [
        ("melascope", findings["melascope"]),
        ("Python", findings["python"]),
        *(
            (
                f"extra `{extra}`",
                f"not installed: pip install '.[{extra}]' in a checkout" if missing else "installed",
            )
            for extra, missing in findings["extras"].items()
        ),
        ("HEIC reader", findings["heic_reader"] or "absent: pip install pi-heif"),
        ("ONNX Runtime", f"{acceleration['onnxruntime']}, {bundle.get('execution_provider', 'not tried')}"),
        ("processor", f"{acceleration['machine']}, {', '.join(acceleration['cpu_features'])}"),
        ("threads", str(acceleration["threads"])),
        ("bundle", f"{bundle.get('id') or bundle.get('reference')}, chosen by {bundle.get('chosen_by')}"),
    ]
    if bundle["verifies"]:
        lines.append(("", f"verifies; its network takes {bundle['network_ms_per_image']} ms an image here"))
    else:
        lines.append(("", f"does not answer: {bundle['fault']}"))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}")
