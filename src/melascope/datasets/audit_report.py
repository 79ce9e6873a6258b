"""The audit on paper: `audit.json` for programs and one self-contained `audit.html` for people."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import jinja2
from PIL import Image

from melascope.datasets.audit import FORMAT_VERSION, Audit, images_digest
from melascope.datasets.files import open_case_bytes
from melascope.datasets.sources.layout import label_of
from melascope.domain.case import Case
from melascope.imaging.decode import decode_image
from melascope.writing import whole_file

_THUMB_PX = (220, 165)
_SHOWN = 100  #: pairs with pictures and rows of a list in the page; the JSON has them all


def write_report(audit: Audit, folder: Path) -> None:
    """Write `audit.json` and `audit.html` into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "audit.json", json.dumps(as_json(audit), indent=1, ensure_ascii=False) + "\n")
    _write(folder / "audit.html", _page(audit))


def as_json(audit: Audit) -> dict[str, object]:
    """The report as JSON values; `clusters` is what `data split --audit` reads."""
    members: dict[str, list[str]] = defaultdict(list)
    for image_id, name in audit.clusters.items():
        members[name].append(image_id)
    unexplained = set(audit.unexplained)
    return {
        "format_version": FORMAT_VERSION,
        "images": len(audit.cases),
        "images_digest": images_digest(audit.cases),
        "leaks": [asdict(leak) for leak in audit.leaks],
        "exact_duplicates": [list(ids) for ids in audit.exact],
        "near_duplicates": [asdict(pair) | {"known_as_one": pair not in unexplained} for pair in audit.near],
        "clusters": {name: sorted(ids) for name, ids in sorted(members.items())},
        "conflicts": [asdict(conflict) for conflict in audit.conflicts],
        "unreadable": dict(audit.unreadable),
        "altered": list(audit.altered),
        "balance": {balance.column: balance.counts for balance in audit.balance},
    }


def _page(audit: Audit) -> str:
    cases = {case.image_id: case for case in audit.cases}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("melascope.datasets"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    unexplained = audit.unexplained
    pairs = [
        {"pair": pair, "pictures": [_picture(cases[image_id]) for image_id in (pair.first, pair.second)]}
        for pair in unexplained[:_SHOWN]
    ]
    return environment.get_template("audit.html").render(
        audit=audit, pairs=pairs, n_unexplained=len(unexplained), shown=_SHOWN, totals=_totals
    )


def _picture(case: Case) -> dict[str, str]:
    """A small JPEG as data URI, and the words below it; only images that the audit could read come here."""
    image = Image.fromarray(decode_image(open_case_bytes(case.path), name=case.path).pixels_HWC)
    image.thumbnail(_THUMB_PX)
    encoded = io.BytesIO()
    image.save(encoded, format="JPEG", quality=80)
    facts = (case.source, case.split, label_of(case.diagnosis, case.melanoma), case.lesion_id)
    return {
        "uri": "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii"),
        "image_id": case.image_id,
        "facts": ", ".join(fact for fact in facts if fact),
    }


def _totals(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = defaultdict(int)
    for row in counts.values():
        for value, n in row.items():
            totals[value] += n
    return dict(totals)


def _write(file: Path, text: str) -> None:
    with whole_file(file) as stream:
        stream.write(text)
