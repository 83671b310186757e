import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from sam4mllm.errors import UserError
from sam4mllm.runtime.settings import load


@dataclass(frozen=True)
class Inner:
    rank: int = 16
    alpha: float = 1.0


@dataclass(frozen=True)
class Kind:
    out: str
    rate: float = 1e-3
    steps: int = 10
    pair: tuple[int, int] = (1, 2)
    many: tuple[str, ...] = ()
    share: dict[str, float] = field(default_factory=dict)
    inner: Inner | None = None
    loud: bool = False
    rows: tuple[Inner, ...] = ()


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "out: here\nrate: 1e-4\npair: [3, 4]\nmany: [a, b, c]\nshare: {box: 1}\ninner: {rank: 4}\n"
        "rows: [{rank: 1}, {}]\n"
    )
    return file


def test_a_recipe_becomes_typed_values(recipe):
    assert load(recipe, Kind) == Kind(
        "here", 1e-4, 10, (3, 4), ("a", "b", "c"), {"box": 1.0}, Inner(4), False, (Inner(1), Inner())
    )


def test_an_override_wins_and_reaches_inside(recipe):
    got = load(recipe, Kind, ["steps=7", "inner.alpha=2", "pair=[5,6]", "loud=true"])
    assert (got.steps, got.inner, got.pair, got.loud) == (7, Inner(4, 2.0), (5, 6), True)
    assert load(recipe, Kind, ["inner=null"]).inner is None
    assert load(recipe, Kind, ["inner=null", "inner.rank=9"]).inner == Inner(9)


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        pytest.param(["rows.0.alpha=2"], (Inner(1, 2.0), Inner()), id="an entry's key"),
        pytest.param(["rows.1={rank: 3}"], (Inner(1), Inner(3)), id="an entry"),
        pytest.param(["rows.2.rank=5", "rows.2.alpha=3"], (Inner(1), Inner(), Inner(5, 3.0)), id="a new entry"),
        pytest.param(["rows=[{rank: 7}]"], (Inner(7),), id="all of it"),
        pytest.param(["rows=[]"], (), id="none"),
    ],
)
def test_an_override_reaches_into_a_list_by_number(recipe, overrides, rows):
    assert load(recipe, Kind, overrides).rows == rows


@pytest.mark.parametrize(
    ("override", "says"),
    [
        pytest.param("stepps=7", "unknown recipe key stepps: did you mean steps?", id="a slip"),
        pytest.param("inner.rnk=7", "unknown recipe key inner.rnk: did you mean rank?", id="a slip inside"),
        pytest.param("zebra=7", "unknown recipe key zebra: choose from out, rate", id="nothing like it"),
        pytest.param("steps=many", "steps must be int, got 'many'", id="a word for a number"),
        pytest.param("steps=1.5", "steps must be int, got 1.5", id="a fraction for a count"),
        pytest.param("steps=true", "steps must be int, got True", id="a truth for a count"),
        pytest.param("rate=fast", "rate must be float, got 'fast'", id="a word for a rate"),
        pytest.param("pair=[1]", "pair must be", id="one of two"),
        pytest.param("out.deep=1", "holds no further keys", id="a key inside a text"),
        pytest.param("rows.3.rank=1", "rows.3.rank cannot be set: '3' is not one of 0, 1, 2 for a new entry", id="far"),
        pytest.param("rows.-1.rank=1", "'-1' is not one of 0, 1, 2 for a new entry", id="from the end"),
        pytest.param("rows.rank=1", "'rank' is not one of 0, 1, 2 for a new entry", id="a key of a list"),
        pytest.param("rows.0.rnk=1", "unknown recipe key rows.0.rnk: did you mean rank?", id="a slip in an entry"),
        pytest.param("rows.0=7", "rows.0 must be Inner, got 7", id="a number for an entry"),
        pytest.param("steps", "override 'steps' is not key=value", id="no value"),
        pytest.param("steps=[", "not valid YAML", id="broken YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line(recipe, override, says):
    with pytest.raises(UserError, match=says.replace("?", r"\?").replace("[", r"\[")) as error:
        load(recipe, Kind, [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("- a list\n", "not a mapping"), ("a: [\n", "cannot read the recipe"), ("rate: 1\n", "lacks out")],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, says):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=says):
        load(file, Kind)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.yaml"):
        load(tmp_path / "missing.yaml", Kind)


@dataclass(frozen=True)
class Choices:
    RENAMED: ClassVar[dict[str, str]] = {"speed": "rate"}
    REFUSED: ClassVar[dict[str, str]] = {"place": "out says it"}

    rate: int | float = 1
    way: Literal["grid", "spread", False] = "grid"
    names: tuple[str, ...] | str | None = None
    options: dict[str, Any] | str = ""


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("rate: 3", {"rate": 3}),
        ("rate: 0.5", {"rate": 0.5}),
        ("rate: 1e-3", {"rate": 0.001}),
        ("way: false", {"way": False}),
        ("names: [a, b]", {"names": ("a", "b")}),
        ("names: a", {"names": "a"}),
        ("names: null", {"names": None}),
        ("options: {deep: [1, {a: 2}]}", {"options": {"deep": [1, {"a": 2}]}}),
    ],
)
def test_a_value_is_of_the_first_type_that_takes_it(tmp_path, text, values):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    assert load(file, Choices) == Choices(**values)
    assert type(load(file, Choices).rate) is type(values.get("rate", 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("speed: 3", "speed is now rate"),
        ("place: here", "place cannot be set: out says it"),
        ("way: gird", "way must be one of grid, spread, False, got 'gird': did you mean grid?"),
        ("way: 0", "way must be one of grid, spread, False, got 0"),
        ("rate: fast", "rate must be int or float, got 'fast'"),
        ("names: 3", "names must be tuple[str, ...] or str, got 3"),
    ],
)
def test_a_renamed_or_refused_key_and_a_wrong_choice_are_named(tmp_path, text, says):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(says)):
        load(file, Choices)
