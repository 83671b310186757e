"""The house itself: what an import loads, which way imports point, and that every public name is there."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sam4mllm
from tests.paths import ROOT

PACKAGE = Path(sam4mllm.__file__).parent
HEAVY = ("torch", "torchvision", "transformers", "peft", "trl", "datasets", "numpy", "cv2", "PIL", "pyarrow")

# a file imports only from the rows below its own room's, and from its own room
LAYERS = [
    ["__main__"],
    ["cli"],
    ["demo", "protocols", "data_prep"],
    ["tiny", "training", "report"],
    ["evaluation"],
    ["prediction"],
    ["config"],
    ["pipeline"],
    ["prompters", "targets", "synthetic"],
    ["mllm", "data"],
    ["language", "segmenters", "images"],
    ["geometry", "runtime"],
    ["errors"],
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports_of(file: Path) -> set[str]:
    """The modules of this package that a file imports, at its top or within, by their first name below the package."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    named = {name.split(".")[1] for name in found if name.startswith("sam4mllm.")}
    return named - {"__version__"}  # the package's own, of no file


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_its_layer():
    assert {room_of(file) for file in FILES} == set(LEVELS)


@pytest.mark.parametrize("folder", sorted({file.parent for file in FILES} - {PACKAGE}), ids=lambda folder: folder.name)
def test_every_room_says_in_one_to_five_lines_what_it_is_for(folder):
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert said
    assert len(said.partition("\n\n    >>>")[0].splitlines()) <= 5


def imported_files(file: Path) -> set[Path]:
    """The files of the package that a file imports, at its top or within."""
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {modules[name] for name in names & modules.keys()}


def test_no_file_imports_itself_by_way_of_others():
    graph = {file: imported_files(file) for file in FILES}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the files


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(file):
    own = room_of(file)
    wrong = {name for name in imports_of(file) - {own} if LEVELS[name] <= LEVELS[own]}
    assert not wrong, f"{own} is not above {wrong}"


def loaded_by(code: str) -> set[str]:
    """The heavy modules that a fresh interpreter holds after running ``code``."""
    report = f"{code}\nimport sys; print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import sam4mllm; sam4mllm.__all__; dir(sam4mllm)") == set()


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["data", "refcoco", "--help"],
        ["eval", "res", "--help"],
        *(
            [name, "--help"]
            for name in (
                "infer",
                "predict",
                "score",
                "calibrate",
                "diagnose",
                "report",
                "targets",
                "finetune",
                "merge",
                "demo",
                "recipe",
                "data",
                "eval",
            )
        ),
    ],
)
def test_help_loads_nothing_heavy(words):
    code = f"import sys; sys.argv[1:] = {words!r}\nfrom sam4mllm.cli import main"
    code += "\ntry: main()\nexcept SystemExit as end: assert not end.code"
    assert loaded_by(code) == set()


def test_the_check_above_can_fail():
    assert "numpy" in loaded_by("import sam4mllm; sam4mllm.Box")


@pytest.mark.parametrize("name", sam4mllm.__all__)
def test_every_public_name_is_there(name):
    assert getattr(sam4mllm, name).__name__ == name
    assert name in dir(sam4mllm)


def test_a_public_name_is_where_its_module_defines_it():
    for name, home in sam4mllm._HOMES.items():
        assert getattr(sam4mllm, name).__module__ == f"sam4mllm.{home}"


@pytest.mark.parametrize(
    "name",
    [
        *("Prompter", "Prompting", "Query", "PointAnswer", "Prompt", "Box", "Point", "Oracle", "PrompterSpec"),
        *("MLLM", "Chat", "Frame", "Turn", "Reply", "Dialect", "MLLMSpec"),
        *("Segmenter", "Scene", "ScoredMask", "Capabilities", "SegmenterSpec"),
        *("Pipeline", "PipelineConfig", "Answer", "Rle", "read_samples", "read_predictions", "UserError"),
    ],
)
def test_what_a_plug_in_or_a_notebook_needs_is_public(name):
    assert name in sam4mllm.__all__


def test_a_name_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = sam4mllm.Nonsense


def test_the_stub_types_the_public_names():
    """The names are imported on first use, which a type checker does not see."""
    stub = ast.parse((ROOT / "sam4mllm" / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}
    assert homes == {name: f"sam4mllm.{home}" for name, home in sam4mllm._HOMES.items()}
