"""A LoRA adapter and the card that says which base it was made for.

The card is the file ``sam4mllm.json`` in the adapter's folder:

    {"schema": 1, "base": "5f2c…", "dialect": "sam4mllm"}

``base`` is the fingerprint of the base model, taken of what it is and not of where it lies: a folder may be moved or
renamed. Knows nothing of training.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError

from sam4mllm.atomic import write_text
from sam4mllm.errors import UserError

log = logging.getLogger(__name__)

CARD = "sam4mllm.json"
SCHEMA = 1
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
VOLATILE = ("path", "version", "dtype", "implementation")  # a key that holds one of these tells how it was loaded


@dataclass(frozen=True)
class Card:
    """What an adapter says of itself: its base's fingerprint, and the dialect it was taught."""

    base: str
    dialect: str

    def write(self, folder: Path) -> None:
        """Write the card beside an adapter's weights."""
        record = {"schema": SCHEMA, "base": self.base, "dialect": self.dialect}
        write_text(folder / CARD, json.dumps(record, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Card | None:
        """The card of an adapter, or None where it has none.

        Raises:
            UserError: for a card that cannot be read.
        """
        file = folder / CARD
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["schema"] != SCHEMA:
                raise UserError(f"the card {file} has schema {record['schema']}; this version reads {SCHEMA}")
            return cls(str(record["base"]), str(record["dialect"]))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"the card {file} is damaged: {error!r}") from error


def fingerprint(model: Any) -> str:
    """A name for a base model, in 64 hexadecimal digits.

    A hash of its configuration, less what tells of paths, versions and the way of loading; of its parameters' names
    and shapes; and of the last matrix of its decoder, rounded to bfloat16. So it is the same wherever the folder lies,
    and for a model of float32 or bfloat16 weights in whichever of the two it is loaded; one of float16 weights must
    not be loaded as bfloat16 or the other way around where its numbers are smaller than 6e-5.
    """
    digest = hashlib.sha256(json.dumps(_lasting(model.config.to_dict()), sort_keys=True, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
    matrices = [parameter for parameter in model.get_decoder().parameters() if parameter.dim() == 2]
    digest.update(matrices[-1].detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def adapted(model: Any, folder: Path) -> tuple[Any, Card | None]:
    """The model with an adapter's layers inside, and the adapter's card.

    Raises:
        UserError: for a folder without an adapter, and an adapter that was made for another base.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"no adapter at {str(folder)!r}: give a folder with adapter_config.json")
    if not any((folder / name).is_file() for name in WEIGHTS):  # peft would look for them on the hub
        raise UserError(f"the adapter {str(folder)!r} has no weights: {WEIGHTS[0]} is missing")
    card = Card.read(folder)
    if card is None:
        log.warning("The adapter %s has no %s: whether it was made for this base is not known.", folder, CARD)
    elif card.base != fingerprint(model):
        raise UserError(f"the adapter {str(folder)!r} was made for another base than {model.config.model_type} given")
    try:
        with warnings.catch_warnings():
            # layers that the adapter holds nothing for would be left as they are, with no more than this
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(folder)).get_base_model(), card
    except (OSError, RuntimeError, ValueError, SafetensorError, UserWarning) as error:
        raise UserError(f"the adapter {str(folder)!r} does not fit: {str(error).strip().splitlines()[0]}") from error


def _lasting(value: Any) -> Any:
    """A configuration without the entries that differ between one loading and the next."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if not any(word in str(k) for word in VOLATILE)}
    return [_lasting(item) for item in value] if isinstance(value, list | tuple) else value
