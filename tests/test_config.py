import inspect
import re

import pytest

from sam4mllm.config import PipelineConfig
from sam4mllm.errors import UserError
from sam4mllm.mllm.adapter_card import AdapterCard
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.load import MLLMS, MLLMSpec
from sam4mllm.mllm.scripted import ScriptedMLLM
from sam4mllm.pipeline import Pipeline
from sam4mllm.prompters.adaptive import AdaptivePQPP
from sam4mllm.prompters.box import BoxPrompter
from sam4mllm.prompters.load import PROMPTERS, PrompterSpec
from sam4mllm.prompters.oracle import Oracle
from sam4mllm.prompters.points import Thresholds
from sam4mllm.prompters.ppg import PPG
from sam4mllm.prompters.pqpp import PQPP
from sam4mllm.segmenters.box import BoxSegmenter
from sam4mllm.segmenters.grabcut import GrabCutSegmenter
from sam4mllm.segmenters.hf import HfSegmenter
from sam4mllm.segmenters.load import SEGMENTERS, SegmenterSpec
from sam4mllm.segmenters.sam import SamSegmenter

MUTE = ScriptedMLLM(lambda *_: "none")


@pytest.fixture
def replay(tmp_path) -> str:
    (tmp_path / "said.jsonl").write_text('{"id": "a", "replies": ["none"]}\n')
    return f"replay:{tmp_path / 'said.jsonl'}"


@pytest.mark.parametrize(("name", "kind"), [("box", BoxSegmenter), ("grabcut", GrabCutSegmenter)])
def test_a_segmenter_is_built_by_its_name(name, kind):
    assert isinstance(SegmenterSpec(name).load(), kind)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("grabcat", "unknown segmenter 'grabcat': did you mean grabcut"),
        ("vit_g:x.pth", "did you mean vit_"),
        ("vit_h", "did you mean vit_h"),
        ("grabcut:x", "unknown segmenter"),
        ("", "no segmenter is set: choose from box, grabcut, tiny, vit_b:FILE"),
        ("vit_h:missing.pth", "no such file: missing.pth"),
        ("vit_h:", "no such file"),
        ("./missing", "unknown segmenter"),
        ("/missing/model", "unknown segmenter"),
        ("owner/name/more", "unknown segmenter"),
        ("owner/", "unknown segmenter"),
    ],
)
def test_a_segmenter_that_is_none_is_refused_with_the_choices(spec, says):
    with pytest.raises(UserError, match=re.escape(says)):
        PipelineConfig(segmenter=spec).check_user_prompts()


@pytest.mark.parametrize("name", ["box", "grabcut"])
def test_an_option_that_would_do_nothing_is_refused(name):
    with pytest.raises(UserError, match="does not support single-mask"):
        PipelineConfig(segmenter=name, single_mask=True).check_user_prompts()


@pytest.mark.parametrize("name", ["box", "grabcut"])
def test_a_device_that_would_not_be_used_is_refused_but_beside_an_mllm(name, replay):
    with pytest.raises(UserError, match=f"the segmenter {name} runs only on the CPU: remove --device cuda:0,cuda:1"):
        PipelineConfig(segmenter=name, device="cuda:0,cuda:1").check_user_prompts()
    PipelineConfig(segmenter=name, device="cpu").check_user_prompts()
    PipelineConfig(segmenter="tiny", device="cuda").check_user_prompts()
    PipelineConfig(segmenter=name, mllm=replay, prompter="box", device="cuda").check()


@pytest.mark.parametrize("name", ["box", "grabcut", "vit_h:sam.pth"])
def test_a_dtype_that_would_not_be_used_is_refused_but_beside_an_mllm(name, replay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sam.pth").touch()
    with pytest.raises(UserError, match=f"the segmenter {name} does not support a dtype: remove --dtype bfloat16"):
        PipelineConfig(segmenter=name, dtype="bfloat16").check_user_prompts()
    PipelineConfig(segmenter="tiny", dtype="bfloat16").check_user_prompts()
    PipelineConfig(segmenter=name, mllm=replay, prompter="box", dtype="bfloat16").check()


@pytest.mark.parametrize("spec", ["facebook/sam-vit-huge", "folder"])
def test_a_hub_name_or_a_folder_may_be_a_model(spec, tmp_path, monkeypatch, replay):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    PipelineConfig(segmenter=spec).check_user_prompts()
    PipelineConfig(segmenter="grabcut", mllm=spec).check()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "no MLLM is set"),
        ("qwen", "unknown MLLM 'qwen'"),
        ("./missing", "unknown MLLM"),
        ("replay:missing.jsonl", "no such file: missing.jsonl"),
    ],
)
def test_a_model_that_is_none_is_refused(spec, says):
    with pytest.raises(UserError, match=says):
        PipelineConfig(segmenter="grabcut", mllm=spec).check()


def test_a_replay_takes_no_adapter(replay):
    with pytest.raises(UserError, match="does not support adapter"):
        PipelineConfig(segmenter="box", mllm=replay, adapter="x").check()


def test_an_adapter_is_a_folder():
    with pytest.raises(UserError, match="no such folder: missing"):
        PipelineConfig(segmenter="box", mllm="owner/name", adapter="missing").check()


def test_a_training_that_has_not_ended_is_no_adapter(tmp_path):
    with pytest.raises(UserError, match="no adapter at"):
        PipelineConfig(segmenter="box", mllm="owner/name", adapter=str(tmp_path)).check()


def test_an_unknown_dialect_is_refused_before_loading(replay):
    with pytest.raises(UserError, match="unknown dialect 'klingon'"):
        PipelineConfig(segmenter="box", mllm="owner/name", dialect="klingon").check()


@pytest.mark.parametrize("name", ["sam4mllm", "qwen2-vl"])
def test_a_replay_speaks_the_dialect_that_is_named(replay, name):
    assert MLLMSpec(replay, dialect=name).load().dialect.name == name


def test_a_replay_speaks_the_papers_dialect_by_default(replay):
    assert MLLMSpec(replay).load().dialect.name == "sam4mllm"


@pytest.mark.parametrize(
    ("name", "kind"), [*zip(PROMPTERS.rows, [PPG, PQPP, AdaptivePQPP, PQPP, BoxPrompter, Oracle], strict=True)]
)
def test_a_prompter_is_built_by_its_name(name, kind):
    assert isinstance(PrompterSpec(name).load(MUTE), kind)


def test_a_prompter_gets_its_options():
    built = PrompterSpec("pqpp", {"points": 9, "sure_no": 0.6}).load(MUTE)
    assert (built.layout.points, built.thresholds) == (9, Thresholds(0.75, 0.6))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("pgg", {}, "unknown prompter 'pgg': did you mean ppg"),
        ("xyz", {}, "choose from ppg, pqpp, adaptive, verified, box, oracle"),
        ("ppg", {"points": 9}, "no option 'points'; it takes positive, negative"),
        ("box", {"sure_yes": 0.5}, "no option 'sure-yes'; it takes no options"),
        ("ppg", {"positive": -1}, "0 or more points"),
        ("pqpp", {"points": 7}, "square"),
        ("pqpp", {"layout": "spiral"}, "unknown layout"),
    ],
)
def test_a_prompter_is_refused_before_a_model_is_loaded(name, options, says):
    with pytest.raises(UserError, match=says):
        PipelineConfig(segmenter="box", mllm="owner/name", prompter=name, options=options).check()


@pytest.mark.parametrize(
    "about",
    [
        {"mllm": "owner/name"},
        {"prompter": "pqpp"},
        {"options": {"points": 9}},
        {"adapter": "x"},
        {"dialect": "sam4mllm"},
        {"trust_remote_code": True},
    ],
    ids=lambda about: next(iter(about)),
)
def test_by_hand_whatever_is_about_a_model_is_refused(about):
    with pytest.raises(UserError, match="do not use an MLLM"):
        PipelineConfig(segmenter="box", **about).check_user_prompts()


def test_a_recipe_builds_a_pipeline(replay):
    built = PipelineConfig(segmenter="box", mllm=replay, prompter="box").build()
    assert isinstance(built, Pipeline)
    assert isinstance(built.prompter, BoxPrompter)
    assert isinstance(built.segmenter, BoxSegmenter)


@pytest.mark.parametrize("device", ["gpu0", "cuda:99"])
def test_a_device_that_is_none_is_refused_in_one_line_before_loading(device, tmp_path):
    (tmp_path / "x.pth").touch()
    for build in [
        MLLMSpec("owner/name", device=device).load,
        SegmenterSpec("owner/name", device).load,
        SegmenterSpec(f"vit_b:{tmp_path / 'x.pth'}", device).load,
    ]:
        with pytest.raises(UserError, match=f"the device '{device}' cannot be used") as refusal:
            build()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("table", [MLLMS, SEGMENTERS], ids=lambda table: table.kind)
def test_the_options_of_the_table_are_those_of_the_loaders(table):
    for loader in filter(None, [*table.rows.values(), table.transformers]):
        parameters = inspect.signature(loader.callable()).parameters
        assert {*loader.options, *loader.fixed} <= set(parameters), loader


def test_a_checkpoint_is_loaded_by_segment_anything(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(SamSegmenter, "load", lambda *args, **options: calls.append((args, options)) or BoxSegmenter())
    (tmp_path / "x.pth").touch()
    SegmenterSpec(f"vit_b:{tmp_path / 'x.pth'}", "cpu", single_mask=True).load()
    assert calls == [((tmp_path / "x.pth",), {"model": "vit_b", "device": "cpu", "single_mask": True})]


def test_a_hub_name_is_loaded_by_transformers_with_the_options_of_the_user(monkeypatch):
    calls = []
    for backend, loaded in ((HfMLLM, MUTE), (HfSegmenter, BoxSegmenter())):
        load = lambda *args, _loaded=loaded, **options: calls.append((args, options)) or _loaded  # noqa: E731
        monkeypatch.setattr(backend, "load", load)
    SegmenterSpec("owner/name", "cpu", "float32").load()
    options = {"dialect": "qwen2-vl", "trust_remote_code": True, "device": "cpu", "dtype": "float32"}
    options |= {"attention": "sdpa", "device_map": "auto", "four_bits": True, "chat_template": "{{ x }}"}
    MLLMSpec("owner/name", **options).load()
    MLLMSpec("owner/name").load()
    names = ("owner/name",)
    assert calls == [(names, {"device": "cpu", "dtype": "float32"}), (names, options), (names, {})]


def test_points_for_a_segmenter_that_takes_none_are_refused_before_anything_loads(tmp_path):
    file = tmp_path / "replies.jsonl"
    file.write_text("")
    recipe = PipelineConfig(segmenter="box", mllm=f"replay:{file}", prompter="ppg")
    with pytest.raises(UserError, match="takes no points"):
        recipe.check()
    PipelineConfig(segmenter="box", mllm=f"replay:{file}", prompter="box").check()
    PipelineConfig(segmenter="box", prompter="oracle", options={"positive": 0, "negative": 0}).check(
        has_ground_truth=True
    )
    for options in ({}, {"positive": 0}, {"positive": 1, "negative": 1}):
        with pytest.raises(UserError, match="takes no points"):
            PipelineConfig(segmenter="box", prompter="oracle", options=options).check(has_ground_truth=True)


def test_a_card_says_what_the_recipe_does_not(tmp_path):
    (tmp_path / "base").mkdir()
    options = {"ppg": {"positive": 5, "negative": 1}, "pqpp": {"sure_yes": 0.8}}
    AdapterCard("5f2c", "sam4mllm", str(tmp_path / "base"), prompters=options).write(tmp_path)
    adapter = str(tmp_path)
    said = PipelineConfig("grabcut", adapter=adapter).resolved()
    assert (said.mllm, said.options) == (str(tmp_path / "base"), {"positive": 5, "negative": 1})
    assert PipelineConfig("grabcut", adapter=adapter, prompter="pqpp").resolved().options == {"sure_yes": 0.8}
    own = PipelineConfig("grabcut", mllm="owner/name", adapter=adapter, options={"positive": 2}).resolved()
    assert (own.mllm, own.options) == ("owner/name", {"positive": 2, "negative": 1})
    merged = PipelineConfig("grabcut", mllm=adapter).resolved()
    assert (merged.mllm, merged.options) == (adapter, {"positive": 5, "negative": 1})
    (tmp_path / "adapter_config.json").touch()
    PipelineConfig("grabcut", adapter=adapter).check()


def test_without_a_card_the_base_is_asked_for(tmp_path):
    recipe = PipelineConfig("grabcut", adapter=str(tmp_path))
    with pytest.raises(UserError, match=r"no sam4mllm\.json with the name of its base model: pass --mllm"):
        recipe.check()
    resolved = PipelineConfig("grabcut", mllm="owner/name").resolved()
    assert resolved == PipelineConfig("grabcut", mllm="owner/name", prompter="box")


def test_an_adapter_of_a_base_that_was_moved_needs_the_name_of_the_base(tmp_path):
    AdapterCard("5f2c", "sam4mllm", "/moved/base").write(tmp_path)
    with pytest.raises(UserError, match=r"trained on /moved/base, which does not exist here: pass --mllm"):
        PipelineConfig("grabcut", adapter=str(tmp_path)).resolved()
    assert PipelineConfig("grabcut", mllm="owner/name", adapter=str(tmp_path)).resolved().mllm == "owner/name"


@pytest.mark.parametrize(
    ("option", "table"),
    [("mllm", MLLMS), ("prompter", PROMPTERS), ("segmenter", SEGMENTERS)],
    ids=lambda value: str(value)[:9],
)
def test_the_help_of_an_option_lists_every_name_of_its_table(option, table):
    import typer.main

    from sam4mllm.cli import app

    predict = typer.main.get_command(app).commands["predict"]
    [text] = [parameter.help for parameter in predict.params if parameter.name == option]
    assert [name for name in table.rows if name not in text] == []


PPG_OPTIONS, PQPP_OPTIONS = {"positive": 5}, {"sure_yes": 0.8}


def write_card(folder, prompters) -> str:
    AdapterCard("5f2c", "sam4mllm", "owner/base", prompters=prompters).write(folder)
    return str(folder)


@pytest.mark.parametrize("given", ["adapter", "mllm"])
@pytest.mark.parametrize(
    ("prompters", "expected", "options"),
    [
        ({"ppg": PPG_OPTIONS, "pqpp": PQPP_OPTIONS}, "ppg", PPG_OPTIONS),
        ({"pqpp": PQPP_OPTIONS}, "pqpp", PQPP_OPTIONS),
        ({}, "box", {}),
    ],
)
def test_the_default_prompter_is_the_first_on_the_card_of_the_adapter_or_the_merged_model(
    tmp_path, given, prompters, expected, options
):
    resolved = PipelineConfig("grabcut", **{given: write_card(tmp_path, prompters)}).resolved()
    assert (resolved.prompter, resolved.options) == (expected, options)
    assert resolved.resolved() == resolved


def test_without_a_card_the_default_prompter_is_box(tmp_path, replay):
    for values in ({"mllm": "owner/name"}, {"mllm": replay}, {"mllm": "owner/name", "adapter": str(tmp_path)}):
        assert PipelineConfig("grabcut", **values).resolved().prompter == "box"


def test_a_named_prompter_replaces_the_default(tmp_path):
    card = write_card(tmp_path, {"pqpp": PQPP_OPTIONS})
    resolved = PipelineConfig("grabcut", adapter=card, prompter="ppg").resolved()
    assert (resolved.prompter, resolved.options) == ("ppg", {})


@pytest.mark.parametrize("prompter", ["ppg", "pqpp", "adaptive"])
@pytest.mark.parametrize("mllm", ["owner/name", "tiny"])
def test_a_prompter_that_needs_fine_tuning_gives_a_warning_without_an_adapter(caplog, mllm, prompter):
    PipelineConfig("grabcut", mllm=mllm, prompter=prompter).resolved().warn_if_not_trained()
    [record] = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "sam4mllm.config")
    assert record.getMessage().startswith(f"no adapter: {mllm} was not fine-tuned for {prompter}, ")


@pytest.mark.parametrize(
    "values",
    [
        {"mllm": "owner/name"},
        {"mllm": "owner/name", "prompter": "box"},
        {"mllm": "owner/name", "prompter": "verified"},
        {"mllm": "REPLAY", "prompter": "ppg"},
        {"adapter": "CARD"},
        {"mllm": "CARD", "prompter": "pqpp"},
        {"mllm": "owner/name", "adapter": "NO CARD", "prompter": "ppg"},
        {"prompter": "oracle"},
    ],
    ids=str,
)
def test_other_models_and_prompters_give_no_warning(caplog, tmp_path, replay, values):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/adapter_config.json").touch()
    (tmp_path / "adapter_config.json").touch()
    places = {"REPLAY": replay, "CARD": write_card(tmp_path, {"ppg": {}}), "NO CARD": str(tmp_path / "bare")}
    config = PipelineConfig("grabcut", **{name: places.get(value, value) for name, value in values.items()})
    config.resolved().warn_if_not_trained()
    assert caplog.records == []
