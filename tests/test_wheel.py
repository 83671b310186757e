"""What users install: the package alone, under pinned names without addresses."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from sam4mllm.runtime.recipes import recipe_names
from tests.data_prep import raw
from tests.paths import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    [file] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(file)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """`sam4mllm` of the wheel alone, in a folder far from the checkout: words in, the finished process out."""
    site, home = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("home")
    zipfile.ZipFile(wheel).extractall(site)
    code = "import sys; from sam4mllm.cli import main; import sam4mllm; "
    code += "assert sam4mllm.__file__.startswith(sys.argv[1]); main(sys.argv[2:])"

    def runs(*words: object):
        command = [sys.executable, "-c", code, str(site), *map(str, words)]
        env = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
        return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=True)

    runs.home = home
    return runs


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sam4mllm"}
    weights = {f"sam4mllm/tiny/weights/{model}/model.safetensors" for model in ("mllm", "sam")}
    files = ("adapter_model.safetensors", "sam4mllm.json")
    adapters = {f"sam4mllm/tiny/weights/{way}/{name}" for way in ("ppg", "pqpp") for name in files}
    recipes = {f"sam4mllm/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "recipes").rglob("*.*")}
    assert {name for name in names if name.startswith("sam4mllm/recipes/")} == recipes
    templates = {file.relative_to(ROOT).as_posix() for file in (ROOT / "sam4mllm" / "report" / "templates").iterdir()}
    assert "sam4mllm/report/templates/page.html" in templates
    assert {"sam4mllm/protocols/published.yaml", *templates, *weights, *adapters} <= names
    assert {"sam4mllm/py.typed", "sam4mllm/__main__.py"} <= names
    assert "sam4mllm/data/samples.py" in names  # which a careless line in .gitignore swallows


def test_the_wheel_lists_its_recipes_and_its_benchmarks(installed):
    assert installed("recipe").stdout.splitlines() == recipe_names()
    shown = installed("eval", "res", "--samples", "data", "--predictions", "out").stdout
    assert "| SAM4MLLM-8B (PQPP) † |" in shown


def test_the_wheel_converts_data(installed):
    raw.write(installed.home / "downloads", "refcoco", {"train": [1, 2], "val": [3]})
    assert "refcoco (RefCOCO): found" in installed("data", "all", "--partial").stdout
    assert {path.name for path in (installed.home / "data" / "refcoco").iterdir()} == {"train", "val", "report.json"}


def test_the_wheels_demonstration_runs_to_its_table_and_picture(installed):
    words = [
        "train_scenes=2",
        "test_scenes=2",
        "training.max_steps=1",
        "training.per_device_train_batch_size=1",
        "search.candidates=2",
    ]
    shown = installed("demo", *words, "prompters=[ppg]", "longer={ppg: tiny}").stdout
    assert "| longer-ppg |" in shown
    assert {path.name for path in (installed.home / "out" / "demo").iterdir()} >= {"table.md", "sheet.png"}


def test_the_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines)


def test_every_direct_dependency_is_constrained():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.match(r"[A-Za-z0-9._-]+", name)[0].lower().replace("_", "-") for name in wanted} - {"sam4mllm"}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    assert names <= pinned
