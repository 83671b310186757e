"""The promise of the dialect table: nothing else in the package knows a model family by name."""

import re
import sys

from sam4mllm.language.dialects import DIALECTS
from tests.paths import ROOT

PACKAGE = ROOT / "sam4mllm"
OWN = ("sam4mllm", "tiny")
DATA_SET = re.compile("(?i)llava[-_]instruct")  # named after a family; its reader is in data_prep
OTHERS = ("idefics", "smolvlm", "blip", "deepseek", "gemini", "minigpt", "mistral", "shikra")


def family_names() -> list[str]:
    """The words that the table's rows and model types begin with, and families that have no row."""
    named = [name for row in DIALECTS.values() for name in (row.name, *row.model_types)]
    words = {match[0] for name in named if (match := re.match("[a-z]+", name)) and not name.startswith(OWN)}
    return sorted(words | set(OTHERS))


def naming(names: list[str]) -> re.Pattern[str]:
    """Finds a name inside longer words too, as in a class's; a short one (glm, blip) only at a word's beginning."""
    short, long = [n for n in names if len(n) <= 4], [n for n in names if len(n) > 4]
    return re.compile(rf"(?i:{'|'.join(long)})|(?<![A-Za-z])(?i:{'|'.join(short)})(?![a-z])")


def test_the_names_are_found_where_they_are_and_not_elsewhere():
    finds = naming(family_names()).search
    assert {"qwen", "llava", "internvl", "paligemma", "florence", "kosmos", "molmo", "gemma", "glm"} <= set(
        family_names()
    )
    for line in (
        "class Qwen2VLThing",
        "if 'llava' in name",
        "Glm4vProcessor",
        "GLM-4V",
        "PALIGEMMA",
        "vipllava",
        "a BLIP",
    ):
        assert finds(line), line
    for line in ("sam4mllm", "dilemma", "a blipped sound", "algLMn", "prefix LM"):
        assert not finds(line), line


def test_no_line_outside_the_dialect_table_names_a_family(capsys):
    finds = naming(family_names()).search
    named = [
        f"{path.relative_to(PACKAGE.parent)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "language" / "dialects.py" and PACKAGE / "data_prep" not in path.parents
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if finds(DATA_SET.sub("", line))
    ]
    with capsys.disabled():
        sys.stdout.write(f"\nlines that name a family outside the dialect table: {len(named)}\n")
    assert named == []
