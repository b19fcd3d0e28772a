"""Protocols of trainers and launchers, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from lrf.types import JSON, Reward


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to one prompt.

    Parameters
    ----------
    place: the prompt's place in ``TrainingJob.prompts``, from 0.
    texts: the answers.
    name: begins the answers' ids, for those who observe the run: "step-12".
    """

    place: int
    texts: Sequence[str]
    name: str = "answer"


@runtime_checkable
class Rewards(Protocol):
    """Gives a trainer rewards of the answers that it makes, by the run's engine.

    Calls are concurrent, journaled and counted against the run's budget as in stage *score*: equal requests are paid
    for once, in this and in every later sitting.
    """

    dimensions: tuple[str, ...]
    """The names of the pipeline's dimensions, in its order."""

    def score(self, answers: Sequence[Answers]) -> list[tuple[Reward, ...]]:
        """A reward for each answer, or the reason for having none; blocks until all are there.

        Raises what stops all scoring: :class:`lrf.errors.JudgeSilentError` when a server is gone (it may be asked
        again), :class:`lrf.errors.BudgetError`, :class:`lrf.errors.RunInterruptedError` and others, which stay.
        """
        ...

    def costs(self) -> Mapping[str, JSON]:
        """What this sitting has asked for and paid so far.

        ``answers`` and how many of them are ``unscored_answers``; ``usage`` in all, ``by_dimension``, and what was
        embedded.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What each process of a training is given.

    Parameters
    ----------
    pairs, lists, scored, prompts: JSONL files of the run: preference pairs, each prompt with all scored candidates,
        answers with their ratings, and the prompts of the data. Those that the trainer's settings name in ``reads``
        exist.
    output: the trainer's own folder. If it has files, they are of an interrupted training with the same data, policy
        and settings, which may be resumed.
    model: the policy to train: a hub id or a folder.
    seed: seeds everything random.
    prompt_template_sha256: hash of the template that made the prompts.
    trust_remote_code: whether code that comes with the model may run.
    report: takes figures of the training's progress; those of rank 0 are shown.
    rank, local_rank, world: this process among all and among this machine's, counted from 0; the number of all.
    rewards: for a trainer whose registration says ``rewards``: asks for them. Rank 0 alone has it, so that the journal
        has one writer: the others send it their answers.
    """

    pairs: Path
    output: Path
    model: str | None
    seed: int
    prompt_template_sha256: str
    trust_remote_code: bool = False
    report: Callable[[Mapping[str, JSON]], None] = lambda _: None
    scored: Path | None = None
    rank: int = 0
    local_rank: int = 0
    world: int = 1
    prompts: Path | None = None
    rewards: Rewards | None = None
    lists: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The folder of the trained model, which transformers can load, and figures for the summary."""

    checkpoint: Path
    metrics: Mapping[str, JSON] = field(default_factory=dict)


@runtime_checkable
class Trainer(Protocol):
    """Makes a policy better. It runs in a process of its own, or in several (its settings say how they share work)."""

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train, in every process; the result of rank 0 counts, once all have ended.

        Raises :class:`lrf.errors.StageError` that says what to change.
        """
        ...


@dataclass(frozen=True, slots=True)
class LaunchJob:
    """What a launcher has to start: ``python -m module args`` in every process.

    Parameters
    ----------
    name: the run's name.
    python: path of the interpreter.
    module, args: what it runs.
    folder: where the plan's files will be written, on a disk that all machines see.
    """

    name: str
    python: str
    module: str
    args: tuple[str, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How processes will be started, as data: nothing has been started or written yet.

    Parameters
    ----------
    world, per_node: how many processes there are, in all and on each machine.
    argv: the command that starts them all and ends when they have ended. It gets SIGTERM to stop them, and its
        standard input ends when the run has died. Empty: the process of the stage is the only one.
    env: what is added to the command's environment.
    files: texts by file name, written into the job's folder.
    note: a sentence for the user.
    """

    world: int = 1
    per_node: int = 1
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@runtime_checkable
class Launcher(Protocol):
    """Says how the processes of a training are started. Each gets RANK, LOCAL_RANK and WORLD_SIZE."""

    def plan(self, job: LaunchJob) -> LaunchPlan:
        """The plan for this job. Imports nothing heavy, starts and writes nothing. Raises ConfigError."""
        ...
