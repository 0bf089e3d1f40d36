"""The repository's pages taken apart: fenced blocks, commands, options named in the text, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("", "sh", "bash", "console")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$", re.S)
# Words between which one line holds several commands, and those of a loop around them.
_SEPARATORS = {";", "&&", "||", "|", "&", "(", ")"}
_LOOP = {"do", "then", "else", "done", "fi", "{", "}"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its line in the page, and why it is not run if a comment says so."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command as words, without the variables set before it, and the folder that a reader types it in."""

    place: str
    words: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        return shlex.join(self.words)


def pages() -> list[Path]:
    """README.md, docs/ and the README of every bundle."""
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("bundles/*/docs/README.md"))]


def name(page: Path) -> str:
    """A page's name for the reports of tests."""
    return page.relative_to(ROOT).as_posix()


def bundle_of(page: Path) -> Path | None:
    """The bundle that a page describes, whose commands are typed in its folder."""
    return page.parents[1] if page.parents[2].name == "bundles" else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = _NOT_RUN.search(text[: match.start()])
        line = text[: match.start()].count("\n") + 1
        found.append(Block(page, line, match[1], match[2], before[1] if before else None))
    return found


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, each on one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def _lines(text: str) -> Iterator[str]:
    """Logical lines: continuations joined, the bodies of here-documents left out."""
    end = None
    joined = ""
    for line in text.splitlines():
        if end is not None:
            end = None if line.strip() == end else end
            continue
        joined += line.removesuffix("\\") + " " if line.endswith("\\") else line
        if line.endswith("\\"):
            continue
        here = re.search(r"<<-?\s*['\"]?(\w+)", joined)
        end = here[1] if here else None
        yield re.sub(r"<<-?\s*['\"]?\w+['\"]?", "", joined)
        joined = ""


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    return list(lexer)


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block, with the variables that it sets itself put in."""
    folder = bundle_of(block.page) or ROOT
    values: dict[str, str] = {}
    for line in _lines(block.text):
        words: list[str] = []
        for word in [*_words(line), ";"]:
            if word in _SEPARATORS:
                while words and (words[0] in _LOOP or re.match(r"\w+=", words[0])):
                    key, separator, value = words.pop(0).partition("=")
                    if separator:
                        values[key] = value
                if words and words[0] == "cd" and (folder / words[1]).is_dir():
                    folder = folder / words[1]
                if words and words[0] not in ("for", "set", "cd"):
                    yield Command(block.place, tuple(words), folder)
                words = []
            else:
                words.append(re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m[1], m[0]), word))


def shell_commands(page: Path) -> list[Command]:
    """All commands of a page: those of its shell blocks, and whole ones inside its text."""
    found = [c for block in blocks(page) if block.language in SHELL for c in commands(block)]
    for code in inline_code(page):
        if re.match(r"(python (-m|tools/)|make |torchrun )", code) and "..." not in code:
            found.extend(commands(Block(page, 0, "", code, None)))
    return found


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page that lie in the repository."""
    return re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
