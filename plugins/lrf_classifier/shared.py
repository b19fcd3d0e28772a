"""One model for all dimensions that differ only in head and scale: loaded once, computed once a sample."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from lrf.types import Sample
from lrf_classifier.outputs import OutputInfo
from lrf_classifier.settings import ClassifierSettings

if TYPE_CHECKING:
    from lrf_classifier.model import SequenceClassifier

SAMPLES_KEPT = 64


@dataclass(frozen=True, slots=True)
class NoOutputs:
    """Why a candidate has no outputs: a short stable word, and a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class SampleOutputs:
    """The outputs by label of each candidate of a sample, or why there are none. Holds on to the sample."""

    sample: Sample
    output_info: OutputInfo
    outputs: tuple[dict[str, float] | NoOutputs, ...]


class SharedModel:
    """A reward model with a thread of its own, and what it made of the last samples."""

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings = settings
        self._model: SequenceClassifier | None = None
        self._rated: OrderedDict[int, tuple[Sample, Future[SampleOutputs]]] = OrderedDict()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lrf-classifier")

    def rate(self, sample: Sample) -> Future[SampleOutputs]:
        """What the model makes of all candidates of this sample.

        The future raises :class:`lrf.errors.StageError` when the model can't be used.
        """
        with self._lock:
            _, future = self._rated.get(id(sample), (sample, None))
            if future is None:
                future = self._thread.submit(self._rate, sample)
                self._rated[id(sample)] = (sample, future)  # the sample is kept, so no other has its id
            self._rated.move_to_end(id(sample))
            while len(self._rated) > SAMPLES_KEPT:
                self._rated.popitem(last=False)
            return future

    def _rate(self, sample: Sample) -> SampleOutputs:
        from lrf_classifier.model import SequenceClassifier

        if self._model is None:
            self._model = SequenceClassifier(self._settings)
        return SampleOutputs(sample, self._model.output_info, self._model.outputs(sample))


_models: WeakValueDictionary[str, SharedModel] = WeakValueDictionary()


def shared_model(settings: ClassifierSettings) -> SharedModel:
    """The model of these settings: the one that there is, if a dimension has it already."""
    key = settings.model_dump_json(exclude={"head", "zero_at", "ten_at"})
    if (model := _models.get(key)) is None:
        model = _models[key] = SharedModel(settings)
    return model
