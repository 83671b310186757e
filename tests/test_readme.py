"""The README is true: its code runs, its commands and options exist. So is the structure in CONTRIBUTING."""

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from sam4mllm.cli import app
from sam4mllm.images.files import read_image
from tests import documented, families
from tests.paths import ROOT
from tests.segmenters import small

README = ROOT / "README.md"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_first_code_draws_a_mask(tmp_path, monkeypatch):
    """The names of the README's models are folders of small random models here, as `from_pretrained` allows."""
    monkeypatch.chdir(tmp_path)
    mllm, segmenter = re.findall(r'load\("([^"]+)"\)', documented.code(README, "python")[0])
    families.build("qwen2_5_vl", tmp_path / mllm)
    small.build("sam", tmp_path / segmenter)
    PIL.Image.fromarray(np.zeros((48, 64, 3), dtype=np.uint8)).save("kitchen.jpg")
    names: dict[str, object] = {}
    exec(documented.code(README, "python")[0], names)
    assert names["answer"].mask.shape == (48, 64)
    assert read_image(Path("mug.png")).shape[1] >= 64


@pytest.mark.parametrize("words", documented.commands(README, "sam4mllm"), ids=" ".join)
def test_every_option_of_a_command_exists(words):
    assert documented.unknown_options(words) == set()


@pytest.mark.parametrize("words", documented.commands(README, "make"), ids=" ".join)
def test_every_make_target_exists(words):
    assert words[1] in documented.make_targets()


def test_every_launcher_that_is_named_exists():
    modules = re.findall(r"python -m ([a-z_.]+)", CONTRIBUTING)
    assert modules
    assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules)


def test_the_structure_lists_every_folder_and_file_of_the_package():
    listed = set(re.findall(r"^(sam4mllm/\S+)", CONTRIBUTING, flags=re.MULTILINE))
    assert listed == {
        path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "")
        for path in (ROOT / "sam4mllm").iterdir()
        if not path.name.startswith("__") and path.suffix in (".py", "")
    }


def test_every_linked_file_exists():
    assert documented.missing_links(README) == []


def test_the_command_line_names_its_commands():
    shown = CliRunner().invoke(app, ["--help"]).output
    assert all(words[1] in shown for words in documented.commands(README, "sam4mllm"))
