"""Reads the code and the commands of a Markdown page, and checks that commands and their options exist."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import typer

from sam4mllm.cli import app
from tests.paths import ROOT

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that a first line such as ``# scenes.py`` names; empty if there is none."""
        match = re.match(r"# (\S+\.\w+)\n", self.text)
        return match[1] if match else ""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a bash block. A line that ends with a backslash continues on the next."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def code(page: Path, language: str) -> list[str]:
    """The texts of the blocks in one language."""
    return [block.text for block in blocks(page) if block.language == language]


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of all commands of a page that start with the name of a program."""
    words = [words for block in blocks(page) if block.language == "bash" for words in block.commands]
    return [command for command in words if command[0] == program]


def missing_links(page: Path) -> list[str]:
    """The relative links of a page that lead to no file, or to no heading of a page."""
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    return [f"{file}#{anchor}" for file, anchor in links if not _exists(page.parent / file if file else page, anchor)]


def _exists(target: Path, anchor: str) -> bool:
    return target.is_file() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def unknown_options(words: list[str]) -> set[str]:
    """The options of a `sam4mllm` command that it does not have.

    Raises:
        AssertionError: if the words name a group of commands only.
    """
    command, rest = typer.main.get_command(app), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    assert not hasattr(command, "commands"), f"{shlex.join(words)}: no command of this name"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return {word for word in rest if word.startswith("--")} - known


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
