"""The hooks of lrf. A plugin implements any of them with :data:`lrf.hookimpl` in a module of the ``lrf`` entry points.

Two families:

* ``lrf_register_*`` return :class:`lrf.ComponentSpec` objects and are called once, when lrf starts. They must not
  import what they register.
* The others tell of a run's life. They only observe: what they return is ignored. They are called in order, in a
  thread beside the run, from a bounded queue. One that raises, or falls too far behind, is detached for the rest of
  the run and reported; the run goes on.

No hook may be a coroutine function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

from lrf.plugin.spec import ComponentSpec

if TYPE_CHECKING:
    from lrf.types import JSON, Reward, Unscored

__all__ = [
    "hookimpl",
]

hookspec = pluggy.HookspecMarker("lrf")
hookimpl = pluggy.HookimplMarker("lrf")

# --- registering components ------------------------------------------------------------------------------------


@hookspec
def lrf_register_sources() -> Iterable[ComponentSpec]:
    """Register data sources (``data.type``): classes that satisfy :class:`lrf.protocols.Source`."""
    return ()


@hookspec
def lrf_register_samplers() -> Iterable[ComponentSpec]:
    """Register samplers (``sample.type``): classes that satisfy :class:`lrf.protocols.Sampler`."""
    return ()


@hookspec
def lrf_register_judges() -> Iterable[ComponentSpec]:
    """Register judges (``judges.NAME.type``): classes that satisfy :class:`lrf.protocols.Judge`."""
    return ()


@hookspec
def lrf_register_embedders() -> Iterable[ComponentSpec]:
    """Register embedders (``embedders.NAME.type``): classes that satisfy :class:`lrf.protocols.Embedder`."""
    return ()


@hookspec
def lrf_register_retrievers() -> Iterable[ComponentSpec]:
    """Register retrievers (``retrievers.NAME.type``): classes that satisfy :class:`lrf.protocols.Retriever`."""
    return ()


@hookspec
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    """Register dimensions (``dimensions[].type``): classes that satisfy :class:`lrf.protocols.Dimension`."""
    return ()


@hookspec
def lrf_register_aggregators() -> Iterable[ComponentSpec]:
    """Register aggregators (``aggregator.type``): classes that satisfy :class:`lrf.protocols.Aggregator`."""
    return ()


@hookspec
def lrf_register_pairings() -> Iterable[ComponentSpec]:
    """Register pairing rules (``pairs.type``): classes that satisfy :class:`lrf.protocols.Pairing`."""
    return ()


@hookspec
def lrf_register_trainers() -> Iterable[ComponentSpec]:
    """Register trainers (``train.type``): classes that satisfy :class:`lrf.protocols.Trainer`."""
    return ()


@hookspec
def lrf_register_launchers() -> Iterable[ComponentSpec]:
    """Register launchers (``launcher.type``): classes that satisfy :class:`lrf.protocols.Launcher`."""
    return ()


# --- the life of a run -----------------------------------------------------------------------------------------


@hookspec
def lrf_run_started(run_dir: str, pipeline: Mapping[str, JSON]) -> None:
    """A run is about to do its first stage.

    ``run_dir`` is the run's directory; ``pipeline`` the resolved pipeline, with secrets left as ``${NAME}``.
    """


@hookspec
def lrf_call_finished(judge: str, kind: str, sample_id: str, attempt: int, seconds: float, error: str | None) -> None:
    """One call to a judge, or to the sampler, came back or failed.

    ``judge`` is its name in the pipeline; ``kind`` what was expected (``"rating"``, ``"verdict"``, …); ``attempt``
    counts from 0; ``error`` is None, or the reason's word. Of the sampler's calls ``judge`` is ``"(sampling)"``
    and ``kind`` ``"candidate"``. Replies taken from the journal are not told.
    """


@hookspec
def lrf_sample_scored(sample_id: str, rewards: tuple[Reward, ...]) -> None:
    """All candidates of a sample have a reward or a reason for having none."""


@hookspec
def lrf_component_failed(component: str, unscored: Unscored, sample_id: str, candidate_id: str) -> None:
    """A dimension (``component`` is its name) could not rate a candidate; ``unscored`` says why."""


@hookspec
def lrf_run_finished(run_dir: str, summary: Mapping[str, JSON]) -> None:
    """The run ended, whether finished, stopped or failed: ``summary["status"]`` says which."""
