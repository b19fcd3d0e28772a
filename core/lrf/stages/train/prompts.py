"""The prompts of the data for a trainer that writes its own answers, and the samples by which they are scored."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from lrf.build import source_of
from lrf.errors import StageError
from lrf.stages.context import StageContext
from lrf.stages.data import data_of
from lrf.stages.reading import good_samples, policy_prompt, prompt_template
from lrf.stages.run_dir import fingerprint
from lrf.store.files import dump, replacing
from lrf.types import Sample

if TYPE_CHECKING:
    from lrf.types import JSON


def prompts_fingerprint(context: StageContext) -> str:
    """A hash of what the prompts are made of. Raises :class:`lrf.errors.StageError` when the data wasn't checked."""
    return fingerprint("prompts", data_of(context.run_dir).sha256, prompt_template(context.pipeline).sha256)


def write_prompts(context: StageContext) -> None:
    """Write ``prompts.jsonl`` and ``prompt_samples.jsonl``: a row for each sample, in the data's order."""
    run, template, adapter = context.run_dir, prompt_template(context.pipeline), _adapter()
    with replacing(run.prompts) as prompts, replacing(run.prompt_samples) as samples:
        for sample in good_samples(source_of(context.pipeline)):
            row: dict[str, JSON] = {"sample_id": sample.id}
            row["prompt"] = [message.as_row() for message in policy_prompt(sample, template)]
            row["prompt_template_sha256"] = None if sample.messages is not None else template.sha256
            if sample.tools:
                row["tools"] = [dict(tool) for tool in sample.tools]
            prompts.write(dump(row) + "\n")
            samples.write(adapter.dump_json(sample).decode() + "\n")


class PromptSamples:
    """The samples of a file that :func:`write_prompts` wrote, by their place in it from 0; it stays on the disk."""

    def __init__(self, path: Path) -> None:
        self._adapter = _adapter()
        self._file = path.open("rb")
        self._ends = array("Q", [0])
        for line in self._file:
            self._ends.append(self._ends[-1] + len(line))

    def __getitem__(self, place: int) -> Sample:
        """From any thread. Raises :class:`lrf.errors.StageError` for a place that the file doesn't have."""
        if not 0 <= place < len(self._ends) - 1:
            raise StageError(f"{self._file.name} has {len(self._ends) - 1} samples, so none at place {place}")
        start, end = self._ends[place : place + 2]
        sample: Sample = self._adapter.validate_json(os.pread(self._file.fileno(), end - start, start))
        return sample

    def close(self) -> None:
        self._file.close()


def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Sample)
