"""Recipes are found by file and by name, from a checkout as from a wheel."""

import pytest

from sam4mllm.errors import UserError
from sam4mllm.runtime import recipes
from sam4mllm.runtime.recipes import recipe_file, recipe_names, shipped_file
from tests.paths import ROOT
from tests.running import invoke


def test_every_recipe_of_the_checkout_ships():
    files = sorted((ROOT / "recipes").rglob("*.yaml"))
    assert recipe_names() == sorted(file.relative_to(ROOT / "recipes").with_suffix("").as_posix() for file in files)
    assert [recipe_file(name) for name in recipe_names()] == [
        ROOT / "recipes" / f"{name}.yaml" for name in recipe_names()
    ]


@pytest.mark.parametrize("name", ["lora", "lora.yaml", "recipes/lora.yaml"])
def test_a_recipe_that_ships_is_found_by_its_name_and_by_the_path_that_its_story_gives(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert recipe_file(name) == ROOT / "recipes" / "lora.yaml"


def test_a_file_that_is_there_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lora").write_text("out: mine")
    assert recipe_file("lora").read_text() == "out: mine"


def test_a_chat_template_that_ships_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = shipped_file("recipes/paligemma2.jinja")
    assert found
    assert found.read_text() == (ROOT / "recipes" / "paligemma2.jinja").read_text()


@pytest.mark.parametrize("name", ["nix", "../README.md", "/nix/nix", ""])
def test_what_is_neither_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^no such recipe: .*, or a name that `sam4mllm recipe` lists$"):
        recipe_file(name)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(UserError, match=r"did you mean lora\?"):
        recipe_file("lara")


def test_an_installed_package_has_them_within(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "tiny").mkdir(parents=True)
    (tmp_path / "recipes" / "tiny" / "a.yaml").write_text("x: 1")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "recipes")
    assert recipe_names() == ["tiny/a"]
    monkeypatch.setattr(recipes, "FOLDER", None)
    assert (recipe_names(), shipped_file("lora")) == ([], None)


def test_the_command_lists_them_and_prints_one():
    listed, printed = invoke("recipe"), invoke("recipe", "tiny/demo")
    assert listed.stdout.splitlines() == recipe_names()
    assert printed.stdout == (ROOT / "recipes" / "tiny" / "demo.yaml").read_text(encoding="utf-8")
    assert invoke("recipe", "nix").exit_code == 2
