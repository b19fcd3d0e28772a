"""The run's log of components' faults, each kind with a few tracebacks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lrf.engine.faults import FaultError

MOST_TRACEBACKS = 5
"""Faults of one component and one class of error that are logged; the others would say the same."""


@dataclass(slots=True)
class FaultLog:
    """A :data:`lrf.engine.faults.FaultListener` that writes to the run's log."""

    log: Any
    _logged: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, fault: FaultError) -> None:
        key = fault.component, fault.kind
        self._logged[key] += 1
        if self._logged[key] <= MOST_TRACEBACKS:
            self.log.error("a component failed", error=fault.detail, transient=fault.transient, traceback=fault.trace)
