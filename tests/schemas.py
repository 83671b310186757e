"""Checks records against the JSON Schemas of the documentation."""

import json
from typing import Any

import jsonschema

from tests.paths import ROOT

FOLDER = ROOT / "docs" / "schemas"


def check(name: str, record: Any) -> None:
    """Raises if a record does not follow ``docs/schemas/NAME.schema.json``."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(record)
