"""The hooks of lrf. A plugin implements any of them with :data:`lrf.hookimpl` in the module of its entry point.

There are two families:

* ``lrf_register_*`` are called once, when lrf starts, and return :class:`lrf.ComponentSpec` objects (one returns
  :class:`lrf.CommandSpec` objects). They must not import what they register.
* The others are called during a run, in order, in a thread beside it. They only observe: what they return is ignored.
  One that raises, or falls too far behind, is detached for the rest of the run and reported; the run continues.

No hook may be a coroutine function. A plugin of one dimension:

>>> @lrf.hookimpl
... def lrf_register_dimensions():
...     return [
...         ComponentSpec(
...             name="politeness",
...             target="lrf_politeness.dimension:Politeness",
...             settings="lrf_politeness.settings:PolitenessSettings",
...             summary="how polite the answer is",
...             distribution="lrf-politeness",
...             needs=("judge",),
...         )
...     ]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

from lrf.plugin.spec import CommandSpec, ComponentSpec

if TYPE_CHECKING:
    from lrf.prompting.requests import Usage
    from lrf.types import JSON, Reward, Unscored

__all__ = [
    "hookimpl",
]

hookspec = pluggy.HookspecMarker("lrf")
hookimpl = pluggy.HookimplMarker("lrf")

# --- registering components ------------------------------------------------------------------------------------


@hookspec
def lrf_register_sources() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's data sources, which ``data.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Source`.
    """
    return ()


@hookspec
def lrf_register_samplers() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's samplers, which ``sample.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Sampler`.
    """
    return ()


@hookspec
def lrf_register_judges() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's judges, which ``judges.NAME.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Judge`.
    """
    return ()


@hookspec
def lrf_register_embedders() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's embedders, which ``embedders.NAME.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Embedder`.
    """
    return ()


@hookspec
def lrf_register_retrievers() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's retrievers, which ``retrievers.NAME.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Retriever`.
    """
    return ()


@hookspec
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's dimensions, which ``dimensions[].type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Dimension`.
    """
    return ()


@hookspec
def lrf_register_aggregators() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's aggregators, which ``aggregator.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Aggregator`.
    """
    return ()


@hookspec
def lrf_register_pairings() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's pairing rules, which ``pairs.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Pairing`.
    """
    return ()


@hookspec
def lrf_register_trainers() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's trainers, which ``train.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Trainer`.
    """
    return ()


@hookspec
def lrf_register_launchers() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's launchers, which ``launcher.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Launcher`.
    """
    return ()


@hookspec
def lrf_register_observers() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's observers, which ``observers[].type`` names in a pipeline.

    Their classes have any of the hooks of a run's life as methods, marked with :data:`lrf.hookimpl`
    (:class:`lrf.protocols.Observer`).
    """
    return ()


@hookspec
def lrf_register_executors() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's executors, which ``executor.type`` names in a pipeline.

    Their classes satisfy :class:`lrf.protocols.Executor`.
    """
    return ()


@hookspec
def lrf_register_benchmarks() -> Iterable[ComponentSpec]:
    """Called when lrf starts. Returns the plugin's benchmarks, which ``lrf bench NAME`` names.

    Their classes satisfy :class:`lrf.protocols.Benchmark`.
    """
    return ()


@hookspec
def lrf_register_commands() -> Iterable[CommandSpec]:
    """Called when a command is used that is not lrf's own, and for ``lrf --help``. Returns the plugin's commands.

    What they name are ``click`` commands, which ``lrf NAME`` then runs.
    """
    return ()


# --- the life of a run -----------------------------------------------------------------------------------------


@hookspec
def lrf_run_started(run_dir: str, pipeline: Mapping[str, JSON]) -> None:
    """Called before a run's first stage, when ``lrf serve`` starts, and in each process of its own that a stage has.

    Parameters
    ----------
    run_dir: the run's directory.
    pipeline: the resolved pipeline; secrets stay as ``${NAME}``.
    """


@hookspec
def lrf_call_finished(
    judge: str,
    kind: str,
    sample_id: str,
    attempt: int,
    seconds: float,
    error: str | None,
    message: str | None,
    dimension: str,
    candidate_id: str,
    model: str | None,
    usage: Usage,
    cost: float | None,
    currency: str | None,
    waited_s: float,
) -> None:
    """Called when a call to a judge, or to the sampler, has returned or failed; not for replies from the journal.

    Parameters
    ----------
    judge: its name in the pipeline, or ``"(sampling)"`` for the sampler.
    kind: what was expected: ``"rating"``, ``"verdict"``, ``"statements"``, …; ``"candidate"`` for the sampler.
    sample_id: the sample that it was made for.
    attempt: counts from 0 while a reply can't be read.
    seconds: how long it took.
    error: None, or the reason's word (:class:`lrf.errors.Reason`); ``message`` is the error's text, without keys.
    dimension: the dimension that it was made for; empty for a call with questions of several.
    candidate_id: the candidate that it was made for; of what candidates share, the first that asked; empty for a call
        with several questions, and for the sampler.
    model: what the judge's settings call the model, where there is one.
    usage: tokens of prompt and reply as the server reported them, those among them that its cache had, and how many
        calls the judge made; zeros where nothing was reported.
    cost: what these tokens cost, in ``currency``; None without a price or without reported tokens.
    waited_s: seconds that the call waited for a slot before it was sent.
    """


@hookspec
def lrf_sample_scored(sample_id: str, rewards: tuple[Reward, ...]) -> None:
    """Called when every candidate of a sample has a reward, or a reason for having none.

    Parameters
    ----------
    sample_id: the sample's id.
    rewards: one for each candidate, in the sample's order.
    """


@hookspec
def lrf_component_failed(component: str, unscored: Unscored, sample_id: str, candidate_id: str) -> None:
    """Called when a dimension could not rate a candidate.

    Parameters
    ----------
    component: the dimension's name.
    unscored: why it could not.
    sample_id, candidate_id: what it was about.
    """


@hookspec
def lrf_run_finished(run_dir: str, summary: Mapping[str, JSON]) -> None:
    """Called once, when a run has ended, also after an error, and when ``lrf serve`` ends.

    Parameters
    ----------
    run_dir: the run's directory.
    summary: what ``summary.json`` has; ``summary["status"]`` says how the run ended. Of ``lrf serve``: the status
        "closed", with calls and tokens since it started.
    """
