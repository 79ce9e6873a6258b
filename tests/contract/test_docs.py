"""Documents stay true: every command in them parses, every recipe and page they name is there."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest

from melascope.cli.main import main

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
    words = shlex.split(line.split(" #")[0].split(" > ")[0])[1:]
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
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for recipe in re.findall(r"recipes/[\w.-]+\.toml", text):
        assert (ROOT / recipe).exists(), f"{page.name} names {recipe}"
