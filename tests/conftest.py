"""Shared by all tests: shapes and types are checked at every call; the real data is found, or the test is skipped."""

import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

import tests.typechecked  # noqa: F401  the hook names it as a string
from tests.paths import ROOT
from tests.running import check_next_commands

PACKAGE = ROOT / "sam4mllm"
# the readers of data_prep take files of any form: there a type is what a file should hold, and not yet what it holds
ROOMS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if path.suffix in ("", ".py") and not path.name.startswith("__") and path.stem != "data_prep"
)
install_import_hook([*(f"sam4mllm.{room}" for room in ROOMS), "tiny_models"], "tests.typechecked.check")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network fails at once
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small lose more by waiting for each other's threads


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos, masks and sentences: $SAM4MLLM_TEST_DATA, else ../shared/data beside the checkout."""
    beside = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("SAM4MLLM_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set SAM4MLLM_TEST_DATA")
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the console entry: words in, (exit code, standard output, standard error) out."""
    from sam4mllm import cli  # here: the import hook must come first

    monkeypatch.setenv("NO_COLOR", "1")

    def runs(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["sam4mllm", *map(str, words)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        out, err = capsys.readouterr()
        check_next_commands(err)
        return done.value.code, out, err

    return runs
