from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.language.dialects import dialect
from sam4mllm.language.messages import Reply
from sam4mllm.mllm import MLLM, Chat
from sam4mllm.mllm.hf.model import HfMLLM
from tests.families import build, qwen2_vl

Talker = Callable[[str], HfMLLM]
FolderOf = Callable[[str], Path]
OPTIONS = ("Yes", "No")


def test_the_model_and_its_chats_satisfy_the_protocols(talker: Talker, images: list[Image]) -> None:
    assert isinstance(talker("llava"), MLLM)
    assert isinstance(talker("llava").open(images), Chat)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (tf.T5Config(), "encoder-decoder"),
        (tf.Florence2Config(), "encoder-decoder"),
        (tf.Qwen2Config(), "is not an image-text-to-text model"),
        (tf.CLIPConfig(), "is not an image-text-to-text model"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_an_unsupported_model_is_refused_by_its_configuration(config: object, says: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=says) as error:
        HfMLLM.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["no/such-model-anywhere", "./no/such/folder", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^no model ") as error:
        HfMLLM.load(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "no-such-type"}', "{}"])
def test_a_damaged_configuration_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"^no model ") as error:
        HfMLLM.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dtype": "float33"}, "unknown dtype 'float33'"),
        ({"dialect": "klingon"}, "klingon"),
        ({"attention": "no_such_attention"}, "does not load"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"adapter": "no/such/folder"}, "no adapter at"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_unknown_choice_is_refused(change: dict[str, str], says: str, folder_of: FolderOf) -> None:
    with pytest.raises(UserError, match=says) as error:
        HfMLLM.load(folder_of("llava"), **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("model.safetensors", "does not load"),
        ("tokenizer.json", "has a processor that does not load|has no image processor"),
        ("processor_config.json", "has a processor that does not load|has no image processor"),
    ],
)
def test_a_folder_with_a_missing_file_is_refused(missing: str, says: str, folder_of: FolderOf, tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("llava"), tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=says) as error:
        HfMLLM.load(folder)
    assert "\n" not in str(error.value)


def test_a_model_without_a_chat_template_is_refused(folder_of: FolderOf, tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("paligemma"), tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        HfMLLM.load(folder)


@pytest.mark.parametrize(
    ("family", "given", "name"),
    [
        ("qwen2_vl", None, "qwen2-vl"),
        ("smolvlm", None, "sam4mllm"),
        ("qwen2_vl", "sam4mllm", "sam4mllm"),
    ],
)
def test_the_dialect_follows_from_the_model_type_by_default(
    family: str, given: str | None, name: str, folder_of: FolderOf
) -> None:
    assert HfMLLM.load(folder_of(family), dialect=given, device="cpu").dialect is dialect(name)


def test_load_options_reach_the_model(folder_of: FolderOf, images: list[Image]) -> None:
    mllm = HfMLLM.load(
        folder_of("qwen2_vl"), dtype="bfloat16", device="cpu", attention="eager", max_new_tokens=2, pack=False
    )
    assert mllm.model.dtype == torch.bfloat16
    assert mllm.model.config._attn_implementation == "eager"
    assert not mllm._speaker.pack
    assert mllm.open(images).answer(["a", "b"]) != []
    mapped = HfMLLM.load(folder_of("qwen2_vl"), device_map="cpu")
    assert mapped.model.dtype == torch.float32
    assert mapped.open(images[:1]).answer(["a"]) == HfMLLM.load(folder_of("qwen2_vl")).open(images[:1]).answer(["a"])


def test_eager_and_sdpa_choose_the_same_packed_or_not(folder_of: FolderOf, images: list[Image]) -> None:
    results = []
    for attention in ("eager", "sdpa"):
        for pack in (True, False):
            mllm = HfMLLM.load(folder_of("qwen2_vl"), attention=attention, device="cpu", pack=pack, max_new_tokens=4)
            chat = mllm.open(images)
            chat.answer(["Where?", "Where is the cat?"])
            results.append(np.concatenate(chat.choose([["(1,2)?", "Is the point (3,4) on it?"]] * 2, OPTIONS)))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-4)


def test_a_reply_is_finished_if_it_ends_before_the_limit(folder_of: FolderOf, images: list[Image]) -> None:
    short = HfMLLM.load(folder_of("qwen2_vl"), device="cpu", max_new_tokens=1).open(images).answer(["a", "b"])
    long = HfMLLM.load(folder_of("qwen2_vl"), device="cpu", max_new_tokens=300).open(images).answer(["a", "b"])
    assert not any(reply.finished for reply in short)
    assert all(reply.finished for reply in long)
    for cut, complete in zip(short, long, strict=True):
        assert complete.text.startswith(cut.text)


def test_rows_with_the_same_number_of_new_tokens_are_fed_together(folder_of: FolderOf, images: list[Image]) -> None:
    mllm = HfMLLM.load(folder_of("llava_onevision"), device="cpu", max_new_tokens=1)
    many = [*images, images[0][::2], images[1][:, ::2]]
    chat = mllm.open(many)
    chat.answer(["Where?"] * 4)
    lengths = {len(row.tail) for row in chat._rows}
    calls: list[int] = []
    hook = mllm.model.register_forward_hook(lambda *_: calls.append(1))
    replies = chat.answer(["And?"] * 4)
    hook.remove()
    assert len(calls) == len(lengths) < 4
    for image, reply in zip(many, replies, strict=True):
        single = mllm.open([image])
        single.answer(["Where?"])
        assert single.answer(["And?"]) == [reply]


def test_no_forward_pass_exceeds_the_token_bound(folder_of: FolderOf, images: list[Image]) -> None:
    for pack in (True, False):
        mllm = HfMLLM.load(folder_of("qwen2_vl"), device="cpu", max_new_tokens=2, kv_tokens=200, pack=pack)
        chat = mllm.open(images[:1])
        chat.answer(["Where?"])
        token_counts: list[int] = []
        hook = mllm.model.get_decoder().register_forward_hook(
            lambda module, args, out, token_counts=token_counts: token_counts.append(
                out.last_hidden_state.shape[0] * out.past_key_values.get_seq_length()
            )
        )
        probabilities = chat.choose([[f"Is the point ({i},{i}) on it?" for i in range(30)]], OPTIONS)[0]
        hook.remove()
        assert probabilities.shape == (30, 2)
        assert max(token_counts) <= 200
        assert len(token_counts) > 3


def test_the_empty_cases(talker: Talker, images: list[Image]) -> None:
    mllm = talker("llava")
    assert mllm.open([]).answer([]) == []
    assert mllm.open([]).choose([], OPTIONS) == []
    chat = mllm.open(images)
    assert chat.answer(["", ""]) == [Reply(""), Reply("")]
    assert [chances.shape for chances in chat.choose([[], ["?"]], OPTIONS)] == [(0, 2), (1, 2)]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda chat: chat.answer(["one"]), id="texts"),
        pytest.param(lambda chat: chat.choose([[]], OPTIONS), id="questions"),
        pytest.param(lambda chat: chat.choose([["?"], []], ("Yes",)), id="options"),
    ],
)
def test_counts_that_do_not_match_are_refused(act, talker: Talker, images: list[Image]) -> None:
    with pytest.raises(ValueError, match=r"texts|questions|options"):
        act(talker("llava").open(images))


def test_random_models_are_the_same_every_time(tmp_path: Path) -> None:
    one, two = (build("qwen2_vl", tmp_path / name) / "model.safetensors" for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert build("qwen2_vl", tmp_path / "c", seed=1).joinpath("model.safetensors").read_bytes() != one.read_bytes()


def test_an_encoder_decoder_is_refused_when_it_is_handed_over_too() -> None:
    model, processor = qwen2_vl()
    model.config.is_encoder_decoder = True
    with pytest.raises(UserError, match="encoder-decoder"):
        HfMLLM(model, processor, dialect("sam4mllm"))


@pytest.mark.parametrize("kind", ["missing", "of another shape", "cut short"])
def test_weights_that_are_not_all_there_are_refused(kind: str, folder_of: FolderOf, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folder_of("llava"), folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in sorted(weights) if "q_proj.weight" in name and "language" in name)
    if kind == "missing":
        del weights[name]
    if kind == "of another shape":
        weights[name] = weights[name][:-1].clone()
    save_file(weights, file, metadata={"format": "pt"})
    if kind == "cut short":
        file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError) as error:
        HfMLLM.load(folder, device="cpu")
    assert "\n" not in str(error.value)


def test_an_image_that_is_too_narrow_is_refused(talker: Talker) -> None:
    with pytest.raises(UserError, match="3000 x 3"):
        talker("qwen2_vl").open([np.zeros((3, 3000, 3), dtype=np.uint8)]).answer(["Where is it?"])
