from __future__ import annotations

from collections.abc import Callable

import pytest

from sam4mllm.errors import UserError
from sam4mllm.geometry.prompts import Image
from sam4mllm.mllm.hf.model import HfMLLM
from sam4mllm.mllm.hf.template import PROBE_TEXTS, Template, _reply_prefix
from tests.families import FAMILIES, llava, qwen2_vl

Talker = Callable[[str], HfMLLM]
# they render earlier turns differently: no end token, a thinking block, a changed prompt
UNLIKE = {"llava", "qwen3_5", "paligemma"}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def opened(mllm: HfMLLM, image: Image, text: str) -> list[int]:
    ids: list[int] = mllm._speaker.template.open([text], [mllm._sight.prepare(image)])["input_ids"][0].tolist()
    return ids


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - UNLIKE))
def test_a_conversation_assembled_from_parts_equals_the_rendered_template(
    family: str, talker: Talker, images: list[Image]
) -> None:
    mllm = talker(family)
    template, replies = mllm._speaker.template, ["Yes, it is", "[281,240,863,999]"]
    texts = ["Where is the cat?", "Is it?", "And (1,2)?"]
    ids = opened(mllm, images[0], texts[0])
    for index, reply in enumerate(replies):
        ids += template.reply(reply) + template.between(texts[: index + 2])
    chat = [{"role": "user", "content": [{"type": "image", "image": mllm._sight.prepare(images[0])}]}]
    chat[0]["content"].append({"type": "text", "text": texts[0]})
    for reply, text in zip(replies, texts[1:], strict=True):
        chat.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
        chat.append({"role": "user", "content": [{"type": "text", "text": text}]})
    rendered = mllm.processor.apply_chat_template(
        [chat], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    assert rendered["input_ids"][0].tolist() == ids


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"paligemma"}))
@pytest.mark.parametrize("text", ["Where?", " spaced", "\n\nbroken", "7", "é", "<b>"])
def test_prompts_differ_from_where_the_text_begins(family: str, text: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    placeholder = opened(mllm, images[0], PROBE_TEXTS[0])
    head = placeholder[: -len(mllm._speaker.template.opening_ids(PROBE_TEXTS[0]))]
    assert opened(mllm, images[0], text) == head + mllm._speaker.template.opening_ids(text)


@pytest.mark.parametrize(
    ("family", "token"),
    [("llava", "</s>"), ("qwen2_vl", "<|im_end|>"), ("glm4v", "<|user|>"), ("gemma3", "<end_of_turn>")],
)
def test_a_reply_ends_in_an_end_token(family: str, token: str, talker: Talker) -> None:
    template = talker(family)._speaker.template
    assert template.tokenizer.convert_ids_to_tokens(template.between(["a", "b"])[0]) == token
    assert template.between(["a", "b"])[0] == template.end_id
    assert template.end_id in template.end_ids


@pytest.mark.parametrize(("family", "reply"), [("llava", " Yes"), ("llava_next", " Yes"), ("qwen3_5", "Yes")])
def test_a_reply_is_as_the_template_renders_it(family: str, reply: str, talker: Talker) -> None:
    template = talker(family)._speaker.template
    assert template.tokenizer.decode(template.reply("Yes")) == reply


@pytest.mark.parametrize(
    ("prompt", "head", "prefix"),
    [
        ("A:", "A: ", " "),
        ("A\n", "A\n", ""),
        ("A", "A<think></think>\n", "<think></think>\n"),
        ("A<think></think>\n\n", "A\n", ""),
        ("A<think>", "A ", " "),
    ],
)
def test_the_text_before_a_reply(prompt: str, head: str, prefix: str) -> None:
    assert _reply_prefix(prompt, head) == prefix


@pytest.mark.parametrize(
    ("family", "token"),
    [("llava", "<image>"), ("llava", "</s>"), ("glm4v", "<|user|>"), ("gemma3", "<end_of_turn>"), ("llava", "@@0@@")],
)
def test_a_text_with_a_special_token_is_refused(family: str, token: str, talker: Talker, images: list[Image]) -> None:
    mllm = talker(family)
    assert mllm.lengths.find_special_token(f"the {token} cat") == token
    chat = mllm.open(images[:1])
    for act in (lambda text: chat.answer([text]), lambda text: chat.choose([[text]], ("Yes", "No"))):
        with pytest.raises(UserError, match=r"contains .*, which is special in the model's input"):
            act(f"the {token} cat")
    chat.answer(["fine"])
    with pytest.raises(UserError, match="is special in the model's input"):
        chat.answer([f"the {token} cat"])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_special_tokens_are_found_in_texts_and_plain_words_are_not(family: str, talker: Talker) -> None:
    mllm = talker(family)
    tokenizer, lengths = mllm.processor.tokenizer, mllm.lengths
    for token in tokenizer.all_special_tokens:
        assert lengths.find_special_token(f"the{token} cat") == token
    for text in ["the cat", "", "a < b, @@ 0 @@, 1/2 <loc> image", "[100,200,300,400]"]:
        assert lengths.find_special_token(text) is None


def test_a_processor_without_a_template_is_refused() -> None:
    _, processor = llava()
    processor.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        Template(processor, [2])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ messages[0]['content'] }", "TemplateSyntaxError: unexpected '}'"),
        ("{{ nosuch.thing.more }}", "UndefinedError: 'nosuch' is undefined"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError: can only concatenate list"),
        ("{{ raise_exception('text only') }}", "TemplateError: text only"),
    ],
    ids=["syntax", "unknown name", "wrong type", "its own refusal"],
)
def test_a_template_that_does_not_work_is_one_line(text: str, says: str) -> None:
    _, processor = qwen2_vl()
    processor.chat_template = text
    with pytest.raises(UserError, match=f"the model's chat template does not work: {says}") as refused:
        Template(processor, [2])
    assert "\n" not in str(refused.value)


def test_a_template_that_drops_replies_is_refused() -> None:
    _, processor = qwen2_vl()
    processor.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(UserError, match="renders no replies"):
        Template(processor, [2])
