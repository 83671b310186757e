"""Diagnoses the predictions of a protocol: writes an error breakdown and a report page for each split.

    out/eval/refcoco/val.jsonl              predictions
    out/eval/refcoco/val.diagnosis.jsonl    one breakdown per prediction, as `sam4mllm diagnose` writes it
    out/eval/refcoco/val.html               the page of both, as `sam4mllm report` writes it

By default the masks are redrawn by the segmenter that is stored with the predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sam4mllm.config import PipelineConfig
from sam4mllm.data.samples import read_samples
from sam4mllm.evaluation.bootstrap import Bootstrap
from sam4mllm.evaluation.diagnose import diagnose_set
from sam4mllm.protocols.measure import predictions_file
from sam4mllm.protocols.protocol import Protocol
from sam4mllm.report.page import write_page
from sam4mllm.runtime.progress import progress, warn


def diagnose_protocol(
    protocol: Protocol, samples: Path, predictions: Path, segmenter_config: PipelineConfig, bootstrap: Bootstrap
) -> Iterator[str]:
    """Yields the error breakdown of each split as Markdown, after writing its files.

    Args:
        protocol: gives the splits and the profile that defines the IoU.
        samples: root folder of the datasets.
        predictions: root folder of the prediction files, which must match their samples.
        segmenter_config: configuration of the segmenter; empty fields are taken from the settings of the predictions.
        bootstrap: settings of the pages' intervals.

    Raises:
        UserError: as `diagnose_set` and `write_page` do.
    """
    by = ["kind"] if any(part.kind for part in protocol.parts) else []
    # of several devices, which are meant for workers, use the first
    device = segmenter_config.device.split(",")[0] if segmenter_config.device else None
    for split in protocol.splits:
        file = predictions_file(predictions, split)
        if not file.exists():
            continue
        split_samples, profile = read_samples(samples / split), protocol.profile
        entries, page = file.with_suffix(".diagnosis.jsonl"), file.with_suffix(".html")
        diagnosis = diagnose_set(
            split_samples,
            file,
            segmenter_config.segmenter,
            profile,
            entries,
            progress,
            by,
            segmenter_config.single_mask,
            device,
        )
        warn(f"{split}: {warning}" for warning in diagnosis.warnings)
        write_page(split_samples, split.split("/")[0], [(file, entries)], profile, page, bootstrap, by)
        yield f"{split}, with images in {page}:\n\n{diagnosis.format_tables(by)}"
