"""Synthetic scenes with exact masks and phrases, for training and evaluation on any machine.

A seed determines a scene: textured figures on a textured background, some of them in pairs that share a box, and
phrases with exactly computed targets.

    >>> drawing = draw_split("test", 0, Level(objects=(1, 4)))
    >>> [(e.text, e.targets, e.kind, e.ambiguous) for e in drawing.expressions][:2]
    [('the red cross', (0,), 'res', True), ('the ring behind the cross', (1,), 'res', True)]
    >>> drawing.masks(drawing.expressions[0])[0].sum()
    702
"""

from __future__ import annotations

from sam4mllm.synthetic.scenes import Level, draw_split

__all__ = ["Level", "draw_split"]
