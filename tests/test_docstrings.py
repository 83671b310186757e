"""Docstrings describe the parameters that exist."""

import ast
import re

import pytest

from tests.paths import ROOT

FILES = [path for folder in ("sam4mllm", "tiny_models") for path in sorted((ROOT / folder).rglob("*.py"))]


def described(node: ast.ClassDef | ast.FunctionDef) -> list[str]:
    """The names in the Args or Attributes section of a docstring."""
    docstring = ast.get_docstring(node) or ""
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", docstring, flags=re.MULTILINE)
    return re.findall(r"^    (\w+):", section[1], flags=re.MULTILINE) if section else []


def existing(node: ast.ClassDef | ast.FunctionDef) -> set[str]:
    """The parameters of a function; the fields, attributes, methods and their parameters of a class."""
    arguments = {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        return arguments
    stored = [name for name in ast.walk(node) if isinstance(getattr(name, "ctx", None), ast.Store)]
    names = {name.id for name in stored if isinstance(name, ast.Name)}
    names |= {name.attr for name in stored if isinstance(name, ast.Attribute)}
    return arguments | names | {member.name for member in node.body if isinstance(member, ast.FunctionDef)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_described_parameter_exists(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert [(node.name, name) for node in nodes for name in described(node) if name not in existing(node)] == []
