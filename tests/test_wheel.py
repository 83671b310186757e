"""What users install: the package alone, under pinned names without addresses."""

import re
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sam4mllm"}
    weights = {f"sam4mllm/tiny/weights/{model}/model.safetensors" for model in ("mllm", "sam")}
    files = ("adapter_model.safetensors", "sam4mllm.json")
    adapters = {f"sam4mllm/tiny/weights/{way}/{name}" for way in ("ppg", "pqpp") for name in files}
    assert {"tiny_models/architecture.json", "sam4mllm/report/sheet.css", *weights, *adapters} <= names


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
