"""Where the IoU of a protocol's predictions was lost: two files and an error breakdown for each measured place.

    out/eval/refcoco/val.jsonl              the predictions
    out/eval/refcoco/val.diagnosis.jsonl    an entry for each, as `sam4mllm diagnose` leaves them
    out/eval/refcoco/val.html               the page that `sam4mllm report` makes of both

Knows no method; the segmenter that draws is the one that predicted, where none is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sam4mllm.config import Recipe
from sam4mllm.data.samples import read_samples
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.diagnose import diagnose_set
from sam4mllm.protocols.measure import predictions_at
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.report.page import write_page
from sam4mllm.runtime.progress import progress, warn


def diagnosed(
    protocol: Protocol, samples: Path, predictions: Path, drawer: Recipe, bootstrap: Bootstrap
) -> Iterator[str]:
    """Each place's error breakdown as Markdown, once its files are written.

    Args:
        protocol: whose places, and whose profile says what an IoU is.
        samples: the root of the sets.
        predictions: the root of the files of predictions, all of which were measured.
        drawer: a segmenter, one mask or its best of three, and a device; each that is not said, as was noted.
        bootstrap: of the intervals of the pages.

    Raises:
        UserError: as `diagnose_set` and `write_page` do.
    """
    by = ["kind"] if any(part.kind for part in protocol.parts) else []
    device = drawer.device.split(",")[0] if drawer.device else None  # of several, which are for workers
    for place in protocol.places:
        file = predictions_at(predictions, place)
        if file.exists():
            asked, entries, page = read_samples(samples / place), beside(file, "diagnosis.jsonl"), beside(file, "html")
            found = diagnose_set(
                asked,
                file,
                drawer.segmenter,
                protocol.profile,
                entries,
                progress,
                by,
                drawer.single_mask,
                device,
            )
            warn(f"{place}: {warning}" for warning in found.warnings)
            name = place.split("/")[0]
            write_page(asked, name, [(file, entries)], protocol.profile, page, bootstrap, by)
            yield f"{place}, with pictures in {page}:\n\n{found.format_tables(by)}"


def beside(file: Path, ending: str) -> Path:
    """A file of the same name with another ending."""
    return file.with_suffix(f".{ending}")
