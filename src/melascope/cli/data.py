"""`melascope data`: fetch, import, merge, audit and split datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from melascope.cli.image_files import printable
from melascope.cli.options import PATH
from melascope.cli.progress import counter
from melascope.domain.case import Case
from melascope.errors import TableError, UsageError

_OUT = click.option("--out", required=True, type=PATH, help="The case table to write.")
_SHOWN = 20  #: unreadable files; the report has them all


@click.group()
def command() -> None:
    """Fetch, import, merge, audit and split datasets."""


@command.command()
@click.argument("name", required=False)
def sources(name: str | None) -> None:
    """List the datasets that can be imported; with NAME, its layout and its mapping to the taxonomy."""
    from melascope.datasets.sources import SOURCES, source_named

    if name is None:
        width = max(map(len, SOURCES))
        for source in SOURCES.values():
            click.echo(f"{source.name:{width}}  {source.title}, {source.licence}")
        return
    source = source_named(name)
    for term, text in (
        ("dataset", source.title),
        ("licence", source.licence),
        ("cite", source.attribution),
        ("address", source.url),
        ("layout", source.layout),
    ):
        click.echo(f"{term:8}  {text}" if text else f"{term:8}  -")
    click.echo("labels")
    for word, label in source.mapping.items():
        click.echo(f"  {word or '(empty)'} -> {label}")


@command.command()
@click.argument("folder", type=PATH)
@click.option(
    "--query", default="image_type:dermoscopic", show_default=True, help="In the archive's language."
)
@click.option(
    "--collection", "collections", type=int, multiple=True, help="Number of a collection (repeatable)."
)
@click.option("--limit", type=click.IntRange(min=1), help="The most images to fetch.")
@click.option("--base-url", default=None, help="Another address of the API.")
@click.option("--threads", type=click.IntRange(1, 32), default=4, show_default=True)
def fetch(
    folder: Path,
    query: str,
    collections: tuple[int, ...],
    limit: int | None,
    base_url: str | None,
    threads: int,
) -> None:
    """Download images of the ISIC archive into FOLDER; run it again to continue and to verify checksums."""
    from melascope.datasets.fetch import ARCHIVE_URL, fetch_archive

    with counter("Fetching images") as progress:
        done = fetch_archive(
            folder,
            query=query,
            collections=collections,
            limit=limit,
            base_url=base_url or ARCHIVE_URL,
            threads=threads,
            progress=progress,
        )
    click.echo(
        f"{done.listed} images: {done.downloaded} downloaded, {done.verified} were there and verified."
    )
    click.echo(f"Licences and attributions: {folder / 'attributions.csv'}")
    click.echo(f"Next: melascope data import isic-archive {folder} --out cases.csv")


@command.command("import")
@click.argument("source")
@click.argument("root", type=PATH)
@_OUT
@click.option("--allow-missing", is_flag=True, help="Leave out labelled images that are not on disk.")
@click.option("--split", "part", help="Put every case into this split instead of the official one.")
@click.option(
    "--column", "columns", multiple=True, metavar="OURS=THEIRS", help="csv: the file's column names."
)
@click.option(
    "--map", "values", multiple=True, metavar="WORD=CLASS", help="csv: what a diagnosis word means."
)
def import_(
    source: str,
    root: Path,
    out: Path,
    allow_missing: bool,
    part: str | None,
    columns: tuple[str, ...],
    values: tuple[str, ...],
) -> None:
    """Turn a dataset in its published layout into a case table (see `data sources`)."""
    from melascope.datasets.sources import finish_cases, read_source
    from melascope.datasets.sources.own_data import read_csv

    if source == "csv":
        read = read_csv(root, columns=_pairs("--column", columns), values=_pairs("--map", values))
        cases = finish_cases(read, root=root, allow_missing=allow_missing)
    elif columns or values:
        raise UsageError(
            f"--column and --map are of no use with {source!r}.", remedy="They are for the source csv."
        )
    else:
        cases = read_source(source, root, allow_missing=allow_missing)
    if part is not None:
        cases = [replace(case, split=part or None) for case in cases]
    _write(cases, out)


@command.command()
@click.argument("tables", nargs=-1, required=True, type=PATH)
@_OUT
@click.option("--keep-first", is_flag=True, help="Of rows with the same image_id keep the one named first.")
def merge(tables: Sequence[Path], out: Path, keep_first: bool) -> None:
    """Join case tables into one."""
    from melascope.datasets.table import read_cases

    merged: dict[str, Case] = {}
    for table in tables:
        for case in read_cases(table):
            if case.image_id in merged and not keep_first:
                raise TableError(
                    f"{table}: image_id {case.image_id!r} stands in an earlier table too.",
                    remedy="HAM10000, ISIC 2018 and 2019 share images: keep one row with --keep-first.",
                )
            merged.setdefault(case.image_id, case)
    _write(list(merged.values()), out)


@command.command()
@click.argument("table", type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder for audit.json and audit.html.")
def audit(table: Path, out: Path) -> int:
    """Look for copies, leaks between splits, contradictory labels and unreadable files.

    Exits 5 on a leak, else 3 if there are files that cannot be read; the report is written in any case.
    """
    from melascope.datasets.audit import audit_cases
    from melascope.datasets.audit_report import write_report
    from melascope.datasets.leaks import refuse_leaks
    from melascope.datasets.table import read_cases

    cases = read_cases(table)
    with ExitStack() as bars:
        found = audit_cases(cases, progress=_bars(bars))
    write_report(found, out)
    click.echo(_summary(cases))
    click.echo(
        f"sets of equal files: {len(found.exact)}, pairs of near duplicates: {len(found.near)}, "
        f"of which not known as one lesion or patient: {len(found.unexplained)}"
    )
    click.echo(
        f"leaks: {len(found.leaks)}, contradictory labels: {len(found.conflicts)}, "
        f"unreadable files: {len(found.unreadable)}, altered files: {len(found.altered)}"
    )
    click.echo(f"Report: {out / 'audit.html'}")
    for image_id, fault in list(found.unreadable.items())[:_SHOWN]:
        click.echo(f"melascope: {printable(image_id)}: {printable(fault)}", err=True)
    refuse_leaks(found.leaks)
    return 3 if found.unreadable else 0


@command.command()
@click.argument("table", type=PATH)
@_OUT
@click.option("--fractions", help="Parts and their shares, e.g. train=0.8,val=0.1,test=0.1")
@click.option("--folds", type=int, help="Number of equal parts for cross-validation, called 0, 1, ...")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--fixed", multiple=True, metavar="SPLIT", help="Cases of this split stay in it (repeatable).")
@click.option(
    "--audit", "report", type=PATH, help="The audit.json of TABLE, instead of looking for duplicates again."
)
def split(
    table: Path,
    out: Path,
    fractions: str | None,
    folds: int | None,
    seed: int,
    fixed: tuple[str, ...],
    report: Path | None,
) -> int:
    """Deal cases into parts: stratified by diagnosis, grouped by patient, lesion and duplicates.

    Without --audit it looks for copies itself, and exits with 3 if there are files that cannot be read.
    """
    from melascope.datasets.audit import find_clusters, read_clusters
    from melascope.datasets.leaks import check_split, refuse_leaks
    from melascope.datasets.split import split_cases
    from melascope.datasets.table import read_cases

    shares = _shares(fractions) if fractions else None
    cases = read_cases(table)
    unreadable: Mapping[str, str] = {}
    if report is not None:
        clusters = read_clusters(report, cases)
    else:
        with ExitStack() as bars:
            clusters, unreadable = find_clusters(cases, progress=_bars(bars))
    dealt = split_cases(cases, fractions=shares, folds=folds, seed=seed, clusters=clusters, fixed=fixed)
    refuse_leaks(check_split(dealt, clusters))
    _write(dealt, out)
    joined = [
        new for old, new in zip(cases, dealt, strict=True) if new.split in fixed and old.split != new.split
    ]
    if joined:
        named = ", ".join(f"{case.image_id} to {case.split}" for case in joined[:10])
        click.echo(
            f"{len(joined)} images are of a patient or lesion of a fixed part, or copies of its images, and joined it: "
            f"{named}{', ...' if len(joined) > 10 else ''}."
        )
    for image_id, fault in list(unreadable.items())[:10]:
        click.echo(f"{image_id}: {fault}", err=True)
    if unreadable:
        click.echo(f"{len(unreadable)} images cannot be read: copies of them were not looked for.", err=True)
        return 3
    return 0


@command.command("join-folds")
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="The predictions table to write.")
def join_folds_command(runs: Sequence[Path], out: Path) -> None:
    """Join the runs of a cross-validation: each case as predicted by the run that had not learnt from it.

    RUNS were trained on one split, each with another --fold. The rows get the split `oof`.

    \b
    melascope evaluate oof.csv --split oof --cross-fit 5
    """
    from melascope.datasets.folds import join_folds
    from melascope.evaluation.predictions import write_predictions

    joined, absent = join_folds(runs)
    write_predictions(joined, out)
    if absent:
        click.echo(f"melascope: without fold {', '.join(absent)}, which no run validated on", err=True)
    click.echo(f"{len(joined.cases)} predictions of {len(runs)} folds written to {out}")


def _bars(bars: ExitStack) -> Callable[[str], Callable[[int, int], None]]:
    """Bars that follow one another: each new title ends the bar before it."""

    def bar(title: str) -> Callable[[int, int], None]:
        bars.close()
        return bars.enter_context(counter(title))

    return bar


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for name, share in _pairs("--fractions", text.split(",")).items():
        try:
            shares[name] = float(share)
        except ValueError:
            raise UsageError(f"--fractions has {name}={share}.", remedy="Write train=0.8,val=0.2") from None
    return shares


def _pairs(option: str, items: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        left, sign, right = item.partition("=")
        if not sign or not left.strip() or left.strip() in pairs:
            raise UsageError(f"{option} has {item!r}.", remedy="Write NAME=VALUE, each name once.")
        pairs[left.strip()] = right.strip()
    return pairs


def _write(cases: Sequence[Case], out: Path) -> None:
    from melascope.datasets.table import write_cases

    write_cases(cases, out)
    click.echo(_summary(cases))
    click.echo(f"{len(cases)} cases written to {out}")


def _summary(cases: Sequence[Case]) -> str:
    """Counts of class x split, as lines of text."""
    from melascope.datasets.sources.layout import label_of

    counts = Counter((label_of(case.diagnosis, case.melanoma), case.split or "no split") for case in cases)
    labels = sorted({label for label, _ in counts}, key=lambda label: (label.startswith("UNK"), label))
    parts = sorted({part for _, part in counts})
    rows = [["", *parts, "all"]]
    rows += [[label, *(str(counts[label, part]) for part in parts)] for label in labels]
    rows.append(["all", *(str(sum(counts[label, part] for label in labels)) for part in parts)])
    for row in rows[1:]:
        row.append(str(sum(map(int, row[1:]))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    )
