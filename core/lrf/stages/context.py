"""What every stage gets: the pipeline, the run's directory, its log, and where progress goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrf.build import observers_of
from lrf.engine.observers import Observers
from lrf.errors import LrfError
from lrf.stages.fingerprints import component_fingerprint
from lrf.stages.run_dir import RunDir
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline
    from lrf.engine.engine import Engine
    from lrf.plugin.catalog import Catalog

Report = Callable[[Mapping[str, JSON]], None]
"""Takes the JSON of a :class:`lrf.stages.progress.Progress`, from any thread."""


@dataclass(slots=True)
class StageContext:
    """A run as its stages see it.

    Whoever makes a context closes its ``observers``, which all stages of a process share.

    Parameters
    ----------
    log: the run's structured log.
    on_stop: functions that are called when the run is to stop, with the reason.
    stop: the first reason to stop, set from a signal or a budget.
    engine: the engine at work, if any.
    replace: whether a stage may remove what it can't make again from the run's other files, such as a policy.
    """

    pipeline: Pipeline
    catalog: Catalog
    run_dir: RunDir
    log: Any
    report: Report
    on_stop: list[Callable[[LrfError], None]] = field(default_factory=list)
    stop: LrfError | None = None
    replace: bool = False
    engine: Engine | None = None
    observers: Observers = field(init=False)

    def __post_init__(self) -> None:
        self.observers = observers_of(
            self.pipeline,
            self.catalog.plugin_manager,
            lambda plugin, reason: self.log.warning("observer detached", plugin=plugin, reason=reason),
        )

    def obey(self, callback: Callable[[LrfError], None]) -> None:
        """Call this when the run is to stop, or at once if it is being stopped already."""
        self.on_stop.append(callback)
        if self.stop is not None:
            callback(self.stop)

    def drain(self, reason: LrfError) -> None:
        """Ask the running stage to finish what is in flight and end. The first reason counts."""
        self.stop = self.stop or reason
        for callback in self.on_stop:
            callback(self.stop)

    def component(self, block: ComponentBlock) -> JSON:
        """What a component's part of the outcome depends on (see ``lrf.stages.fingerprints``)."""
        return component_fingerprint(block, self.catalog)
