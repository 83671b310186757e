"""The table of dialects: how each MLLM family writes boxes and points. A new family is a new row, without code.

>>> dialect("qwen2-vl").write_box(Box(64, 48, 320, 240), Frame.unscaled(640, 480))
'<|box_start|>(100,100),(500,500)<|box_end|>'
"""

from __future__ import annotations

from collections.abc import Mapping

from sam4mllm.errors import UserError
from sam4mllm.language.notation import Dialect

_JSON_BOX, _JSON_POINT = '{"bbox_2d":[$x0,$y0,$x1,$y1]$label}', '{"point_2d":[$x,$y]$label}'
_ROWS = (
    Dialect(
        "sam4mllm",
        box="[$x0,$y0,$x1,$y1]",
        point="($x,$y)",
        max_index=999,
        digits=3,
        model_types=("idefics3", "smolvlm"),  # not pre-trained to write coordinates: they learn the paper's notation
    ),
    Dialect(
        "qwen2-vl",
        box="<|box_start|>($x0,$y0),($x1,$y1)<|box_end|>",
        point="<|box_start|>($x,$y)<|box_end|>",
        max_index=999,
        model_types=("qwen2_vl",),
    ),
    Dialect(
        "qwen2.5-vl",
        box=_JSON_BOX,
        point=_JSON_POINT,
        label=',"label":"$text"',
        pixels=True,
        model_types=("qwen2_5_vl",),
    ),
    Dialect(
        "qwen3-vl",
        box=_JSON_BOX,
        point=_JSON_POINT,
        label=',"label":"$text"',
        model_types=("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp"),
    ),
    Dialect(
        "llava",
        box="[$x0,$y0,$x1,$y1]",
        point="[$x,$y]",
        cells=100,
        max_index=100,
        decimals=2,
        model_types=("llava", "llava_next", "llava_next_video", "llava_onevision"),
    ),
    Dialect(
        "internvl",
        box="$label<box>[[$x0,$y0,$x1,$y1]]</box>",
        point="$label<box>[[$x,$y]]</box>",
        label="<ref>$text</ref>",
        model_types=("internvl",),
    ),
    Dialect(
        "paligemma",
        box="<loc$y0><loc$x0><loc$y1><loc$x1>$label",
        point="<loc$y><loc$x>",
        label=" $text",
        cells=1024,
        max_index=1023,
        digits=4,
        model_types=("paligemma",),
    ),
    Dialect(
        "florence-2",
        box="$label<loc_$x0><loc_$y0><loc_$x1><loc_$y1>",
        point="<loc_$x><loc_$y>",
        label="$text",
        max_index=999,
        cell_centres=True,
        model_types=("florence2",),
    ),
    Dialect(
        "kosmos-2",
        box="$label<object><patch_index_$i0><patch_index_$i1></object>",
        point="<object><patch_index_$i></object>",
        label="<phrase>$text</phrase>",
        cells=32,
        max_index=31,
        cell_centres=True,
        digits=4,
        model_types=("kosmos-2",),
    ),
    Dialect(
        "molmo2",
        box="[$x0,$y0,$x1,$y1]",
        point='<points coords="1 1 $x $y">$label</points>',  # image 1, then (point 1, x, y)
        label="$text",
        digits=3,
        none="There are none.",
        # boxes of models derived from Molmo; the second and later points of a multi-point tag
        extra_templates=('coords="1 1 $x0 $y0 $x1 $y1"', "$n $x $y"),
        model_types=("molmo2",),
    ),
    Dialect(
        "gemma",
        box='{"box_2d":[$y0,$x0,$y1,$x1]$label}',
        point='{"point":[$y,$x]$label}',
        label=',"label":"$text"',
        model_types=("gemma3", "gemma3n", "gemma4", "gemma4_unified"),
    ),
    Dialect(
        "glm-4v",
        box="<|begin_of_box|>[[$x0,$y0,$x1,$y1]]<|end_of_box|>",
        point="<|begin_of_box|>[[$x,$y]]<|end_of_box|>",
        model_types=("glm4v", "glm4v_moe", "glm46v", "glmga"),
    ),
    Dialect(
        "tiny",  # the embedded model: its tokenizer has one token for each of the 112 pixels along an axis
        box="<box><p$x0><p$y0><p$x1><p$y1>",
        point="<p$x><p$y>",
        cells=112,
        max_index=112,
        point_centres=True,  # rounding to pixel edges could move a point near an outline to the other side
        digits=3,
    ),
)

DIALECTS: Mapping[str, Dialect] = {row.name: row for row in _ROWS}
_BY_MODEL_TYPE: Mapping[str, Dialect] = {model_type: row for row in _ROWS for model_type in row.model_types}


def dialect(name: str) -> Dialect:
    """The dialect with this name.

    Raises:
        UserError: if the name is unknown; the message lists the choices.
    """
    if name not in DIALECTS:
        raise UserError(f"unknown dialect {name!r}: choose from {', '.join(DIALECTS)}")
    return DIALECTS[name]


def dialect_for(model_type: str) -> Dialect:
    """The dialect for a transformers ``config.model_type``; ``sam4mllm``, the paper's, if no row lists the type."""
    return _BY_MODEL_TYPE.get(model_type, DIALECTS["sam4mllm"])
