"""The house itself: what an import loads, which way imports point, and that every public name is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sam4mllm

PACKAGE = Path(sam4mllm.__file__).parent
HEAVY = ("torch", "torchvision", "transformers", "peft", "trl", "datasets", "numpy", "cv2", "PIL", "pyarrow")

# a file imports only from the lines below its own, and from its own folder
LAYERS = [
    ["cli", "tiny"],
    ["plan_page"],
    ["training_plan"],
    ["calibration_run"],
    ["infer", "prediction_run", "diagnose_run", "report_run", "learning", "merging", "target_run"],
    ["run_identity"],
    ["recipe", "held_out", "fingerprints", "score_run"],
    ["builders", "row_plan", "memory"],
    ["diagnose", "report"],
    ["ledger", "reliability"],
    ["finetune", "conversations", "predict", "calibration", "score"],
    ["costs", "signature", "peers", "swaps"],
    ["tally"],
    ["teaching", "prediction_files"],
    ["sources", "epochs"],
    ["pipeline", "targets", "turns", "shapes", "pairs", "predictions", "talks"],
    ["model_card", "training"],
    ["trainable", "stopping", "watching"],
    ["checkpoints"],
    ["prompters"],
    ["mllm", "segmenter"],
    ["dialogue", "strata", "page"],
    ["dialects", "sampling", "samples", "target_shards", "metrics", "draw"],
    ["notation", "rle", "counting", "images", "shards"],
    ["runs", "geometry", "ratios", "engines", "atomic", "settings", "rows"],
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


def test_every_file_has_its_layer():
    assert {room_of(file) for file in FILES} - set(LEVELS) == set()


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


def test_a_name_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = sam4mllm.Nonsense
