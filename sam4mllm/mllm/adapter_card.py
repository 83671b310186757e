"""What a trained model says of itself: the file ``sam4mllm.json`` beside its weights.

    {"schema": 2, "base": "5f2c…", "base_name": "owner/name", "dialect": "sam4mllm", "wording": 1,
     "prompters": {"ppg": {"positive": 3, "negative": 3}, "pqpp": {"sure_yes": 0.8, "sure_no": 0.85}},
     "data": {"data/refcoco/train": "9a41…"}, "versions": {"sam4mllm": "0.2.0", "peft": "0.21.2"}}

``base`` is the fingerprint of the base model, taken of what it is and not of where it lies: a folder may be moved or
renamed. ``prompters`` are the options that strategies should be built with, where nothing else is said. Knows nothing
of weights.
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
SCHEMA = 2


@dataclass(frozen=True)
class Card:
    """What a model was trained from, and how it is to be asked.

    Attributes:
        base: the base's fingerprint.
        dialect: how it was taught to write places.
        base_name: what the base was loaded by: a hub name, a folder, or one of the package's own names.
        wording: the version of the sentences that it was taught (`dialogue.WORDING`).
        prompters: for a strategy's name, options that it is built with where nothing else is said.
        data: fingerprints of what it was taught, by its place.
        versions: of the libraries that trained it.
        chat_template: the Jinja text that it was taught with, where its base has another one or none.
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
        """Write the card beside a model's weights."""
        write_text(folder / CARD, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Card | None:
        """The card of a model, or None where it has none.

        Raises:
            UserError: for a card that cannot be read, or of another schema.
        """
        file = folder / CARD
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            schema = record.pop("schema")
            card = cls(**record) if schema == SCHEMA else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"the card {file} is damaged: {error!r}") from error
        if card is None:
            raise UserError(f"the card {file} has schema {schema}; this version reads {SCHEMA}")
        return card

    def warn_of_wording(self, folder: Path) -> None:
        """Say where a model was taught other sentences than it will be asked, and which version asks those.

        It is not refused: the version counts every sentence, and those that changed need not be this model's.
        """
        if self.wording != WORDING:
            made = self.versions.get("sam4mllm", "of its own time")
            log.warning(
                "%s was taught wording %d, and is asked in wording %d, which it may answer worse: use sam4mllm %s, or "
                "train it again.",
                folder,
                self.wording,
                WORDING,
                made,
            )

    def of_same_base(self, other: Card) -> bool:
        """Whether what both describe was trained from one base, in one dialect, wording and chat template."""
        mine, others = ((card.base, card.dialect, card.wording, card.chat_template) for card in (self, other))
        return mine == others

    def options(self, prompter: str) -> dict[str, Any]:
        """What a strategy is built with where nothing else is said."""
        return dict(self.prompters.get(prompter, {}))
