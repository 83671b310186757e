from functools import partial

import pytest

from sam4mllm.errors import UserError
from sam4mllm.training.config.finetune import Validation
from sam4mllm.training.config.training import Lora, Training
from sam4mllm.training.dataset.mixture import DataSource, Mixture, PointSampling, Rows

NAN = float("nan")
STEPS, SAMPLES = partial(Training, max_steps=1), partial(Validation, "set", "grabcut")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (Mixture, {"ppg": 0, "pqpp": 0}, "one of them above 0"),
        (Mixture, {"ppg": -1, "pqpp": 2}, "must be 0 or more"),
        (Mixture, {"ppg": NAN}, "must be 0 or more"),
        (Rows, {"positive": -1}, "rows.positive must be 0 or more, got -1"),
        (Rows, {"seed": -1}, "rows.seed must be 0 or more, got -1"),
        (Rows, {"per_image": 0}, "rows.per_image must be 1 or more, got 0"),
        (Rows, {"tokens": 0}, "rows.tokens must be 1 or more, got 0"),
        (PointSampling, {"mean": -1}, "asked.mean must be 0 or more, got -1"),
        (PointSampling, {"deviation": float("inf")}, "asked.deviation must be 0 or more, got inf"),
        (PointSampling, {"least": 0}, "asked.least must be 1 or more, got 0"),
        (PointSampling, {"least": 5, "most": 4}, "asked.most must be 5 or more, as least is, got 4"),
        (PointSampling, {"single": 1.1}, "asked.single must be 0 to 1, got 1.1"),
        (PointSampling, {"hard": -0.1}, "asked.hard must be 0 to 1, got -0.1"),
        (PointSampling, {"near": 0}, "asked.near must be above 0, to 1, got 0"),
        (DataSource, {}, "needs either samples or talks"),
        (DataSource, {"samples": "a", "talks": "b"}, "needs either samples or talks, got samples a and talks b"),
        (DataSource, {"talks": "a", "targets": "b"}, "talks have no targets"),
        (DataSource, {"talks": "a", "weight": -1}, "weight of a source must be 0 or more, got -1"),
        (DataSource, {"talks": "a", "weight": NAN}, "weight of a source must be 0 or more, got nan"),
        (SAMPLES, {"count": 0}, "validation.count must be 1 or more, got 0"),
        (SAMPLES, {"every": 0}, "validation.every must be 1 or more, got 0"),
        (Lora, {"r": 0}, "training.lora.r must be 1 or more, got 0"),
        (Lora, {"lora_dropout": 1}, "training.lora.lora_dropout must be 0 to less than 1, got 1"),
        (Lora, {"target_modules": ()}, "or null for all of them"),
        (STEPS, {"quantize": "8bit"}, "4bit, with a lora, or null"),
        (STEPS, {"quantize": "4bit", "lora": None}, "4bit, with a lora"),
        (STEPS, {"save_total_limit": 0}, "save_total_limit must be 1 or more, or null"),
        (STEPS, {"dataloader_num_workers": -1}, "dataloader_num_workers must be 0 or more"),
        (STEPS, {"learning_rate": NAN}, "learning_rate must be above 0, got nan"),
        (STEPS, {"seed": 2**32}, r"seed must be 0 to less than 2\*\*32"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_values_out_of_range_are_refused(section, values, message):
    with pytest.raises(UserError, match=message):
        section(**values)


def test_epochs_are_converted_to_steps_and_must_contain_a_row():
    assert Training(num_train_epochs=0.5).in_steps(lambda epochs: round(epochs * 40)).max_steps == 3
    with pytest.raises(UserError, match=r"0\.02 is too low: it gives no rows"):
        Training(num_train_epochs=0.02).in_steps(lambda epochs: round(epochs * 10))
