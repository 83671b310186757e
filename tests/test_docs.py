"""The site: every page is in nav and nav names only pages, and the reference has every key and public name."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

import sam4mllm
from sam4mllm.training.config.finetune import FinetuneConfig, PqppOptions, Validation
from sam4mllm.training.config.refused import LORA_REFUSED, LORA_RENAMED, TRAINING_REFUSED, TRAINING_RENAMED
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.dataset.mixture import DataSource, Mixture, PointSampling, Rows
from tests.paths import ROOT

DOCS = ROOT / "docs"
GENERATED = {"reference/cli.md"}  # by `make docs`
RECIPES = (DOCS / "reference" / "recipes.md").read_text(encoding="utf-8")


def nav_pages(entry: object) -> list[str]:
    """The pages below an entry of nav, in order."""
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in nav_pages(child)]


def site() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_nav_names_every_page_once_and_no_other():
    pages = nav_pages(site()["nav"])
    assert len(pages) == len(set(pages))
    assert set(pages) - GENERATED == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - GENERATED


def test_the_built_site_loads_nothing_from_the_network(tmp_path):
    """The build itself is strict: a dead link or anchor, or a page outside nav, fails it."""
    for name in ("mkdocs.yml", "sam4mllm"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(DOCS, tmp_path / "docs")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    cli = ["typer", "sam4mllm.cli", "utils", "docs", "--name", "sam4mllm", "--output", "docs/reference/cli.md"]
    for words in (cli, ["mkdocs", "build", "--strict", "--quiet"]):
        subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=env, check=True)
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(nav_pages(site()["nav"]))  # and the page of error 404
    for page in pages:
        remote = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>", page.read_text("utf-8")
        )
        assert not remote, page.name


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_every_linked_file_exists(path):
    links = re.findall(
        r"\]\(((?!http)[^)#\s]+)", re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.S)
    )
    missing = [link for link in links if not (path.parent / link).exists()]
    assert {(path.parent / link).resolve() for link in missing} <= {DOCS / page for page in GENERATED}


def section(heading: str) -> str:
    """A section of the page about recipes, up to the next heading."""
    return re.split(r"^#{2,3} ", RECIPES.split(f" {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def defaults(kind: type) -> dict[str, str]:
    """The keys of a section, and their defaults as the page writes them."""
    found = {}
    for field in dataclasses.fields(kind):
        value = field.default
        if value is dataclasses.MISSING:
            required = field.default_factory is dataclasses.MISSING
            found[field.name] = "required" if required else "`{}`"
        else:
            found[field.name] = "`{}`" if dataclasses.is_dataclass(value) else f"`{json.dumps(value)}`"
    return found


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Top level", FinetuneConfig),
        ("data", DataSource),
        ("rows", Rows),
        ("rows.mixture", Mixture),
        ("rows.asked", PointSampling),
        ("training", Training),
        ("training.lora", Lora),
        ("pqpp", PqppOptions),
        ("validation", Validation),
    ],
)
def test_the_page_about_recipes_has_every_key_with_its_default(heading, kind):
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (required|`[^|]*`) \|", section(heading), flags=re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert dict(rows) == defaults(kind)


def test_the_page_about_recipes_lists_what_is_refused_and_renamed():
    refused = RECIPES.partition("## Refused arguments")[2]
    for reason in {*TRAINING_REFUSED.values(), *LORA_REFUSED.values()}:
        assert f"| {reason} |" in refused
    for name in (*TRAINING_REFUSED, *LORA_REFUSED):
        assert f"`{name}`" in refused
    for old, new in (*TRAINING_RENAMED.items(), *LORA_RENAMED.items()):
        assert f"| `{old}` | `{new}` |" in refused


def test_the_page_about_python_has_every_public_name():
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    objects = dict(reversed(line.rpartition(".")[::2]) for line in re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE))
    public = {name: f"sam4mllm.{home}" for name, home in sam4mllm._HOMES.items()}
    assert public.items() <= objects.items()


def test_the_generated_page_and_the_site_are_ignored():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/site/", *(f"/docs/{page}" for page in GENERATED)} <= set(ignored)


def test_the_checks_build_the_site():
    assert "make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert (ROOT / "Makefile").read_text(encoding="utf-8").count("mkdocs build --strict") == 1
