"""`melascope data`: fetch, import, merge, audit and split datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from melascope.datasets.sources import read_source
from melascope.datasets.split import split_cases
from melascope.datasets.table import read_cases, write_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import TableError, UsageError

_FOLDER = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Fetch, import, merge, audit, split and cache datasets."""


@command.command("import")
@click.argument("source")
@click.argument("root", type=_FOLDER)
@click.option("--out", required=True, type=_FOLDER, help="The case table to write.")
@click.option("--allow-missing", is_flag=True, help="Leave out labelled images that are not on disk.")
@click.option("--split", "part", help="Put every case into this split instead of the official one.")
def import_(source: str, root: Path, out: Path, allow_missing: bool, part: str | None) -> None:
    """Turn a dataset in its published layout into a case table (see `data sources`)."""
    cases = read_source(source, root, allow_missing=allow_missing)
    if part is not None:
        cases = [replace(case, split=part or None) for case in cases]
    _write(cases, out)


@command.command()
@click.argument("tables", nargs=-1, required=True, type=_FOLDER)
@click.option("--out", required=True, type=_FOLDER, help="The case table to write.")
@click.option("--keep-first", is_flag=True, help="Of rows with the same image_id keep the one named first.")
def merge(tables: Sequence[Path], out: Path, keep_first: bool) -> None:
    """Join case tables into one."""
    merged: dict[str, Case] = {}
    for table in tables:
        for case in read_cases(table):
            if case.image_id in merged and not keep_first:
                raise TableError(
                    f"{table}: image_id {case.image_id!r} stands in an earlier table too.",
                    remedy="ISIC 2018, 2019 and HAM10000 share images: keep one row each with --keep-first.",
                )
            merged.setdefault(case.image_id, case)
    _write(list(merged.values()), out)


@command.command()
@click.argument("table", type=_FOLDER)
@click.option("--out", required=True, type=_FOLDER, help="The case table to write.")
@click.option("--fractions", help="Parts and their shares, e.g. train=0.8,val=0.1,test=0.1")
@click.option("--folds", type=int, help="Number of equal parts for cross-validation, called 0, 1, ...")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--fixed", multiple=True, metavar="SPLIT", help="Cases of this split stay in it (repeatable).")
def split(
    table: Path, out: Path, fractions: str | None, folds: int | None, seed: int, fixed: tuple[str, ...]
) -> None:
    """Deal cases into parts: stratified by diagnosis, grouped by patient, lesion and duplicates."""
    shares = _fractions(fractions) if fractions else None
    cases = split_cases(read_cases(table), fractions=shares, folds=folds, seed=seed, fixed=fixed)
    _write(cases, out)


def _fractions(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for item in text.split(","):
        name, _, share = item.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise UsageError(
                f"--fractions has {item!r}.", remedy="Write e.g. train=0.8,val=0.1,test=0.1"
            ) from None
    return shares


def _write(cases: Sequence[Case], out: Path) -> None:
    write_cases(cases, out)
    click.echo(_summary(cases))
    click.echo(f"{len(cases)} cases written to {out}")


def _label(case: Case) -> str:
    if case.diagnosis is not Diagnosis.UNK:
        return str(case.diagnosis)
    return {True: "UNK, melanoma", False: "UNK, not melanoma", None: "UNK"}[case.melanoma]


def _summary(cases: Sequence[Case]) -> str:
    """Counts of class x split, as lines of text."""
    counts = Counter((_label(case), case.split or "no split") for case in cases)
    labels = sorted({label for label, _ in counts}, key=lambda label: (label.startswith("UNK"), label))
    parts = sorted({part for _, part in counts})
    rows = [["", *parts, "all"]]
    rows += [[label, *(str(counts[label, part]) for part in parts)] for label in labels]
    rows.append(["all", *(str(sum(counts[label, part] for label in labels)) for part in parts)])
    for row in rows[1:]:
        row.append(str(sum(map(int, row[1:]))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(parts) + 2)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
