"""The dimension ``classifier``: one output of a reward model, as a rating."""

from __future__ import annotations

import asyncio

from lrf.errors import Reason, UnscorableError
from lrf.protocols import Context
from lrf.types import Candidate, Judgement, Sample
from lrf_classifier.settings import ClassifierSettings
from lrf_classifier.shared import NoOutputs, shared_model


class Classifier:
    """Rates an answer by what a sequence classifier puts out for prompt and answer. Asks no judge.

    The rating is 10 × (output − zero_at) / (ten_at − zero_at), cut off at 0 and 10. All candidates of a sample are
    computed together, so what one gets doesn't depend on when it is asked for.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings = settings
        self._model = shared_model(settings)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        rated = await asyncio.shield(asyncio.wrap_future(self._model.rate(sample)))
        outputs = rated.outputs[next(i for i, c in enumerate(sample.candidates) if c.id == candidate.id)]
        if isinstance(outputs, NoOutputs):
            raise UnscorableError(outputs.reason, outputs.detail)
        head = rated.output_info.head(self._settings.head)
        zero_at, ten_at = rated.output_info.scale(self._settings)
        output = outputs[head]
        if output != output:  # NaN
            raise UnscorableError(Reason.NO_NUMBER, f"the reward model's output {head!r} is no number")
        rating = 10 * (output - zero_at) / (ten_at - zero_at)
        return Judgement(min(10.0, max(0.0, rating)), reply_mode="classifier", extra={"head": head, "output": output})
