"""The card of a trained model: the file ``sam4mllm.json`` in the folder of its weights.

    {"schema": 2, "base": "5f2c…", "base_name": "owner/name", "dialect": "sam4mllm", "wording": 1,
     "prompters": {"ppg": {"positive": 3, "negative": 3}, "pqpp": {"sure_yes": 0.8, "sure_no": 0.85}},
     "data": {"data/refcoco/train": "9a41…"}, "versions": {"sam4mllm": "0.2.0", "peft": "0.21.2"}}

``base`` is the fingerprint of the base model. It depends on the model and not on its path, so the folder may be moved
or renamed. ``prompters`` holds the default options of the prompters.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam4mllm.errors import UserError
from sam4mllm.language.templates import WORDING
from sam4mllm.runtime.files import write_text

log = logging.getLogger(__name__)

CARD = "sam4mllm.json"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class AdapterCard:
    """The base, the data and the prompt settings of a trained model.

    Attributes:
        base: the fingerprint of the base model.
        dialect: the notation of places that the model was trained on.
        base_name: the name the base was loaded by: a hub name, a folder, or the name of an embedded model.
        wording: the version of the prompt sentences it was trained on (`sam4mllm.language.templates.WORDING`).
        prompters: default options by prompter name.
        data: the fingerprint of each data set it was trained on, by path.
        versions: the versions of the libraries used for training.
        chat_template: the Jinja template used for training, if it differs from the base's or the base has none.
    """

    base: str
    dialect: str
    base_name: str = ""
    wording: int = WORDING
    prompters: Mapping[str, Mapping[str, str | int | float]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    chat_template: str | None = None

    def write(self, folder: Path) -> None:
        """Write the card to the folder of the model's weights."""
        write_text(folder / CARD, json.dumps({"schema": SCHEMA_VERSION, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> AdapterCard | None:
        """The card in a model's folder, or None if there is no card.

        Raises:
            UserError: if the card cannot be read or has another schema.
        """
        file = folder / CARD
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            schema = record.pop("schema")
            card = cls(**record) if schema == SCHEMA_VERSION else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"the card {file} is damaged: {error!r}") from error
        if card is None:
            raise UserError(f"the card {file} has schema {schema}; this version reads {SCHEMA_VERSION}")
        return card

    def warn_if_wording_differs(self, folder: Path) -> None:
        """Log a warning if the model was trained with other prompt sentences, and name the version that uses them.

        This is not an error: the wording version counts changes to any sentence, and the ones that changed may not
        concern this model.
        """
        if self.wording != WORDING:
            trained_with = self.versions.get("sam4mllm", "of the time of its training")
            log.warning(
                "%s was trained with wording %d; this version uses wording %d, so predictions may be worse: use "
                "sam4mllm %s, or train again.",
                folder,
                self.wording,
                WORDING,
                trained_with,
            )

    def of_same_base(self, other: AdapterCard) -> bool:
        """Whether both models were trained from the same base, with the same dialect, wording and chat template."""
        return (self.base, self.dialect, self.wording, self.chat_template) == (
            other.base,
            other.dialect,
            other.wording,
            other.chat_template,
        )

    def options(self, prompter: str) -> dict[str, Any]:
        """The default options of a prompter; empty if the card has none."""
        return dict(self.prompters.get(prompter, {}))
