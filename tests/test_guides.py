"""The guides are true: the tutorial runs and prints what it shows, examples work, commands and messages exist."""

import ast
import io
import re
import runpy
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests import documented
from tests.documented import Block
from tests.paths import ROOT
from tests.running import invoke

# peft and trl use deprecated property names of transformers
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
DOCS = ROOT / "docs"
TUTORIAL, EXTEND, TROUBLESHOOTING = DOCS / "tutorial.md", DOCS / "how-to" / "extend.md", DOCS / "troubleshooting.md"
GUIDES = [TUTORIAL, TROUBLESHOOTING, *sorted((DOCS / "how-to").glob("*.md"))]
NUMBER = re.compile(r"[-+]?\d[\d.,]*")
REST = "…"


class Session:
    """Runs the blocks of a page in the working folder, in order, in one Python namespace."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self.names: dict[str, object] = {}
        self.output, self.log = "", log

    def run(self, block: Block) -> None:
        """Write the file of a block, or run it; the output of the last run block stays in `output`."""
        if block.language not in ("python", "bash", "yaml"):
            return
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
            return
        self.log.clear()
        if block.language == "python":
            self.output = captured(lambda: exec(block.text, self.names))
        else:
            self.output = "".join(map(run_command, block.commands))
        self.output += "\n".join(self.log.messages)  # pytest takes the messages that a terminal would show


def run_page(page: Path, log: pytest.LogCaptureFixture) -> None:
    """Run all blocks of a page; each text block shows output of the block before it."""
    session = Session(log)
    for block in documented.blocks(page):
        if block.language == "text":
            assert missing_line(block.text, session.output) == "", session.output
        else:
            session.run(block)


def captured(action) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        action()
    return printed.getvalue()


def run_command(words: Sequence[str]) -> str:
    if words[0] == "python":
        return captured(lambda: runpy.run_path(words[1], run_name="__main__"))
    assert words[0] == "sam4mllm", words
    result = invoke(*words[1:])
    assert result.exit_code == 0, result.stderr
    return result.stdout + result.stderr


def pattern(text: str) -> str:
    """A regular expression for a text, in which an ellipsis stands for any characters."""
    return re.escape(text).replace(REST, ".*")


def missing_line(shown: str, output: str) -> str:
    """The first shown line that the output lacks; numbers may differ, and an ellipsis stands for any text."""
    printed = NUMBER.sub("0", output)
    for line in shown.splitlines():
        if not re.search(f"^{pattern(NUMBER.sub('0', line))}$", printed, re.MULTILINE):
            return line
    return ""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder from which modules can be imported; the modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    loaded = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - loaded:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def test_the_tutorial_prints_what_it_shows(folder, caplog):
    run_page(TUTORIAL, caplog)
    assert Path("bar.png").is_file()


def test_the_examples_of_extensions_work(folder, caplog):
    run_page(EXTEND, caplog)


def sam4mllm_commands() -> list[tuple[str, list[str]]]:
    return [(guide.stem, words) for guide in GUIDES for words in documented.commands(guide, "sam4mllm")]


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{page}: {' '.join(words)}") for page, words in sam4mllm_commands()]
)
def test_every_command_and_option_exists(words):
    assert documented.unknown_options(words) == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_every_code_of_a_guide_compiles_and_every_link_leads_to_a_file(guide):
    assert documented.missing_links(guide) == []
    for text in documented.code(guide, "python"):
        ast.parse(text)


def messages() -> list[str]:
    """The messages of the troubleshooting page."""
    return [line for text in documented.code(TROUBLESHOOTING, "text") for line in text.splitlines()]


def source_texts() -> list[str]:
    """All texts in the source, with an ellipsis in place of each inserted value."""
    texts = []
    for file in sorted((ROOT / "sam4mllm").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[sd]", REST, node.value))  # of a log line
            elif isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else REST for part in node.values))
    return texts


@pytest.fixture(scope="module")
def source() -> list[str]:
    """The texts that say something: those with a few words besides their values."""
    return [text for text in source_texts() if len(text.replace(REST, "")) >= 12]


@pytest.mark.parametrize("message", messages())
def test_every_message_of_the_troubleshooting_page_is_in_the_source(message, source):
    assert any(re.fullmatch(pattern(text), message) or re.fullmatch(pattern(message), text) for text in source)


def test_the_troubleshooting_page_has_the_likely_messages():
    assert len(messages()) >= 25
