"""Documents stay true: every command in them parses, every recipe and page they name is there."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest

from melascope.cli.assess import command as assess
from melascope.cli.main import main
from melascope.domain.diagnosis import Diagnosis
from melascope.runtime.assessor import Assessor
from melascope.web.api import Options

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE):
            found += [
                (page.name, line.strip())
                for line in block.splitlines()
                if line.strip().startswith("melascope ")
            ]
        found += [(page.name, inline) for inline in re.findall(r"`(melascope [^`\n]+)`", text)]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda value: value[:60])
def test_every_command_in_the_documents_parses(page: str, line: str) -> None:
    words = shlex.split(re.split(r" #| >>? ", line)[0])[1:]
    if "..." in words or words[-1].endswith("..."):
        pytest.skip("an elided command")
    command: click.Command = main
    context = click.Context(main, info_name="melascope")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        inner = command.get_command(context, name)
        assert inner is not None, f"{page}: there is no command {name!r} in `{line}`"
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    with contextlib.suppress(click.exceptions.Exit):  # --help and --version answer and leave
        command.make_context(command.name or "melascope", words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_recipe_in_the_documents_exists(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    pictures = re.findall(r"""<img\b[^>]*?\bsrc=["']([^"']+)["']""", text)
    for target in links + pictures:
        if not target.startswith(("http://", "https://", "mailto:", "data:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for recipe in re.findall(r"recipes/[\w.-]+\.toml", text):
        assert (ROOT / recipe).exists(), f"{page.name} names {recipe}"


def told_of_a_stated_prevalence() -> list[str]:
    (option,) = (option for option in assess.params if option.name == "prevalence")
    assert isinstance(option, click.Option)
    return [
        Assessor.terms.__doc__ or "",
        Options.model_fields["prevalence"].description or "",
        option.help or "",
        *(page.read_text() for page in PAGES if "referral away" in " ".join(page.read_text().split())),
    ]


@pytest.mark.parametrize("text", told_of_a_stated_prevalence(), ids=lambda text: text[:40])
def test_what_a_stated_prevalence_does_to_a_decision_is_told_whole(text: str) -> None:
    told = " ".join(text.split())
    assert "takes a referral away" in told
    assert re.search("nobody is reassured|reassurance away|adds doubt", told)


def unfilled_markers(text: str) -> list[str]:
    """Markers of text that was to be filled in: `<!-- word -->`."""
    return re.findall(r"<!--\s*[\w-]+\s*-->", text)


def unfilled_cells(text: str) -> list[str]:
    """Cells of tables' bodies that are one word in capitals and no class."""
    rows, found = [line.strip() for line in text.splitlines()], []
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        if row.startswith("|") and not re.match(r"\|[\s:|-]+$", following):  # else it is a table's header
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            found += [c for c in cells if re.fullmatch(r"[A-Z][A-Z_]{2,}", c) and c not in set(Diagnosis)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_marker_is_left_to_be_filled_in(page: Path) -> None:
    assert unfilled_markers(page.read_text()) == []


def test_no_experiment_is_left_without_its_figure() -> None:
    assert unfilled_cells((ROOT / "docs" / "experiments.md").read_text()) == []


def test_what_is_left_is_told_from_remarks_headers_and_classes() -> None:
    assert unfilled_markers("<!-- demo --> <!-- a whole remark -->") == ["<!-- demo -->"]
    table = "| AUROC | what |\n|---|:-:|\n| MEL | 0.9 |\n| kept | ALLOCATOR |\n\nTODAY\n"
    assert unfilled_cells(table) == ["ALLOCATOR"]
