"""Stage *score*: every candidate gets a reward, or a reason for having none.

Samples are opened as fast as the judges take calls and no faster, so memory doesn't grow with the data. What a
sample yields is committed to the journal's rows when it is complete; the files are made of these rows in input order
at the end. A later run of the same command finds finished samples there and every paid reply in the journal.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from lrf.assemble import engine_of
from lrf.build import prices_of
from lrf.config.prices import read_prices
from lrf.engine.engine import Engine
from lrf.engine.event_loop import tuned
from lrf.errors import GateError, LrfError
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress, Stall, budget_use, waiting
from lrf.stages.reading import sample_digest, samples
from lrf.stages.sample.source import sampled, sampled_source
from lrf.stages.score.alarms import Alarms
from lrf.stages.score.calibration import calibrated, drift_alarms
from lrf.stages.score.gate import unscored_message
from lrf.stages.score.rescore import end_rescore, rounds_of
from lrf.stages.score.rows import judgement_row, reward_row
from lrf.stages.score.server_metrics import judge_figures
from lrf.stages.score.watchdog import STALL_S, UNSTEADY_STALL_S, Watchdog
from lrf.stages.spending import paid
from lrf.store.cache import open_journal
from lrf.store.files import dump, replacing, sha256_of
from lrf.store.journal import Journal
from lrf.store.spool import Spool
from lrf.types import JSON, Judgement, Reward, Sample

SEPARATOR = "\x1e"  # between a sample's rows for the two files; JSON escapes it within a row
TICK_S = 0.25


async def score_stage(context: StageContext, data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Counts of the stage. ``data`` are the counts of stage *data*.

    When it is stopped (a signal, a budget, a judge that can't work) calls in flight are finished, the files are made
    of the samples that are complete, and the reason is raised.
    """
    data = await asyncio.to_thread(sampled, context, data)
    record = context.run_dir.record("score")
    fingerprint = context.score_fingerprint(data["sha256"])
    counts = await asyncio.to_thread(record.finished, fingerprint)
    if counts is not None and not counts["transient"]:
        end_rescore(context.run_dir)
        return counts
    journal = await asyncio.to_thread(open_journal, context.run_dir.journal, context.pipeline.cache)
    began = time.monotonic()
    try:
        engine = engine_of(context.pipeline, journal, context.observers, rounds=rounds_of(context.run_dir))
        prices = read_prices(context.pipeline.prices)
        context.on_stop.append(engine.drain)
        try:
            if engine.ledger.budget.limited:
                before_now = await asyncio.to_thread(paid, journal, context.pipeline, engine.judges)
                before_now.carry_into(engine.ledger, prices_of(context.pipeline).values())
            await Spool(journal).drop_rows(keep=fingerprint)
            with tuned():
                moved = await calibrated(
                    context, engine, fingerprint, lambda: _score_all(context, engine, fingerprint, data)
                )
            figures = await judge_figures(engine, context)
        finally:
            await engine.aclose()
            context.on_stop.remove(engine.drain)
        alarms = Alarms(context.pipeline.seed)
        before = await asyncio.to_thread(sha256_of, context.run_dir.rewards)
        counts = await asyncio.to_thread(_write_files, context, journal, fingerprint, alarms)
        if before != await asyncio.to_thread(sha256_of, context.run_dir.rewards):
            context.run_dir.drop_pairs()
        in_all = await asyncio.to_thread(paid, journal, context.pipeline, engine.judges)
        names = [d.name for d in context.pipeline.dimensions]
        raised = alarms.raised((name, in_all.asked[name], in_all.asked_again[name]) for name in names)
        raised += drift_alarms(moved)
        for alarm in raised:
            context.log.warning("alarm", **alarm)
        took = {
            **engine.ledger.as_json(),
            "money": in_all.as_json(prices),
            "alarms": raised,
            "judges": figures,
            **({"calibration": moved} if moved else {}),
            "score_seconds": round(time.monotonic() - began, 3),
        }
        reason = context.stop or engine.fatal
        if reason is not None:
            for said in (*engine.left.values(), _what_is_left(counts, data)):
                if said:
                    reason.add_note(said)
            raise StageStoppedError(reason, {**counts, **took})
        if counts["candidates"] != data["candidates"] or counts["samples"] != data["samples"]:
            raise GateError(
                f"rows don't add up: {data['samples']} samples with {data['candidates']} candidates went in, "
                f"{counts['samples']} with {counts['candidates']} came out (did the data change while it was read?)"
            )
        counts = {**counts, **took}
        record.write(fingerprint, [context.run_dir.rewards, context.run_dir.judgements], counts)
        end_rescore(context.run_dir)
        await Spool(journal).drop_rows()
        return counts
    finally:
        await asyncio.to_thread(journal.close)


class StageStoppedError(Exception):
    """Carries a stop's reason past the stage, together with the counts of what was finished."""

    def __init__(self, reason: LrfError, counts: Mapping[str, JSON], *, stage: str = "score") -> None:
        super().__init__(str(reason))
        self.stage = stage
        self.reason = reason
        self.counts = counts


def _what_is_left(counts: Mapping[str, JSON], data: Mapping[str, JSON]) -> str:
    return f"{counts['samples']} of {data['samples']} samples are scored and kept; the same command goes on from there"


async def _score_all(context: StageContext, engine: Engine, stage: str, data: Mapping[str, JSON]) -> None:
    source = await asyncio.to_thread(sampled_source, context)
    done = Counter[str]()
    open_: set[asyncio.Task[None]] = set()
    most_open = max(16, 2 * engine.slots)

    async def one(position: int, sample: Sample) -> None:
        mark = sample_digest(sample)
        if await Spool(engine.journal).has_row(stage, position, mark):
            done.update(samples=1, candidates=len(sample.candidates))
            return
        rewards = await engine.score(sample, position)
        for reward in rewards:
            if reward.unscored:
                u = reward.unscored
                context.log.info(
                    "unscored", sample=sample.id, candidate=reward.candidate_id, dimension=u.dimension, reason=u.reason
                )
        transient = any(r.unscored and r.unscored.transient for r in rewards)
        await Spool(engine.journal).put_row(
            stage, position, sample.id, mark, _row(rewards, sample), transient=transient
        )
        done.update(samples=1, candidates=len(rewards), unscored=sum(r.reward is None for r in rewards))

    def finished(task: asyncio.Task[None]) -> None:
        open_.discard(task)
        engine.moved.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            failed("a sample failed", error)

    def failed(what: str, error: BaseException) -> None:
        if not isinstance(error, LrfError):
            error = LrfError(f"{type(error).__name__}: {error}")
            context.log.error(what, error=str(error))
        engine.drain(error)

    steady = all(judge.judge.capabilities.steady for judge in engine.judges.values())
    watchdog = Watchdog(
        engine,
        lambda stall: context.log.warning("no reply for long", **asdict(stall)),
        {name for name, block in context.pipeline.judges.items() if block.spec.own_process},
        STALL_S if steady else UNSTEADY_STALL_S,
    )

    async def tick() -> None:
        while True:
            context.report(_progress(engine, done, data, watchdog.look()))
            await asyncio.sleep(TICK_S)

    async def open_all() -> None:
        async for position, sample in samples(source):
            while not engine.fatal and (len(open_) >= most_open or engine.waiting >= max(1, engine.slots)):
                engine.moved.clear()
                await engine.moved.wait()
            if engine.fatal or context.stop:
                break
            task = asyncio.create_task(one(position, sample))
            open_.add(task)
            task.add_done_callback(finished)
            await asyncio.sleep(0.001)  # its calls reach the queue before the next sample is opened

    ticker = asyncio.create_task(tick())
    try:
        try:
            await open_all()
        except Exception as e:  # what is in flight is paid for: it is finished first
            failed("the data can't be read on", e)
        while open_:
            await asyncio.wait(open_)
    finally:
        ticker.cancel()
        context.report(_progress(engine, done, data))


def _progress(
    engine: Engine, done: Counter[str], data: Mapping[str, JSON], stall: Stall | None = None
) -> Mapping[str, JSON]:
    total = engine.ledger.total()
    return Progress(
        stage="score",
        samples=done["samples"],
        of_samples=data["samples"],
        candidates=done["candidates"],
        of_candidates=data["candidates"],
        unscored=done["unscored"],
        calls=total.calls,
        reused=total.reused,
        retried=sum(engine.retried.values()),
        in_flight=engine.in_flight,
        tokens=total.prompt_tokens + total.completion_tokens,
        budget=budget_use(engine.ledger),
        waits=waiting(engine.waits),
        stall=stall,
    ).as_json()


def _row(rewards: tuple[Reward, ...], sample: Sample) -> str:
    """The lines of rewards, those of judgements, the lengths of the candidates' texts, and what judgements count."""
    return SEPARATOR.join(
        (
            "\n".join(dump(reward_row(r)) for r in rewards),
            "\n".join(dump(judgement_row(r)) for r in rewards),
            dump([len(c.text) for c in sample.candidates]),
            dump(_counted(rewards)),
        )
    )


def _counted(rewards: Iterable[Reward]) -> Mapping[str, Mapping[str, int]]:
    """The whole numbers of the judgements' ``extra``, added up by dimension."""
    found: dict[str, Counter[str]] = {}
    for name, judgement in (item for reward in rewards for item in reward.judgements.items()):
        if isinstance(judgement, Judgement):
            numbers = {key: n for key, n in judgement.extra.items() if type(n) is int}
            found.setdefault(name, Counter()).update(numbers)
    return found


def _write_files(context: StageContext, journal: Journal, stage: str, alarms: Alarms) -> dict[str, JSON]:
    """The two files, made of the journal's rows; and what they hold."""
    counts = Counter[str]()
    reasons = Counter[str]()
    rated = Counter[str]()
    counted: dict[str, Counter[str]] = {}
    with replacing(context.run_dir.rewards) as rewards, replacing(context.run_dir.judgements) as judgements:
        for transient, row in Spool(journal).rows(stage):
            reward_lines, judgement_lines, lengths, numbers = row.split(SEPARATOR)
            for name, of_sample in json.loads(numbers).items():
                counted.setdefault(name, Counter()).update(of_sample)
            counts["samples"] += 1
            counts["transient"] += transient
            lines = reward_lines.split("\n") if reward_lines else ()
            for line, length in zip(lines, json.loads(lengths), strict=True):
                parsed = json.loads(line)
                alarms.add(parsed["ratings"], parsed["reward"], length)
                counts["candidates"] += 1
                counts["scored" if parsed["reward"] is not None else "unscored"] += 1
                if unscored := parsed["unscored"]:
                    reasons[f"{unscored['dimension']}: {unscored['reason']}"] += 1
                rated.update(name for name, rating in parsed["ratings"].items() if rating is not None)
            if reward_lines:
                rewards.write(reward_lines + "\n")
                judgements.write(judgement_lines + "\n")
    if counts["candidates"] != counts["scored"] + counts["unscored"]:
        raise GateError(f"candidates don't add up: {dict(counts)}")
    names = ("samples", "candidates", "scored", "unscored", "transient")
    return {
        **{name: counts[name] for name in names},
        "reasons": dict(reasons.most_common()),
        "rated": {d.name: rated[d.name] for d in context.pipeline.dimensions},
        "counted": {name: dict(numbers) for name, numbers in sorted(counted.items()) if numbers},
    }


def check_unscored(context: StageContext, counts: Mapping[str, JSON]) -> None:
    """The failure gate. Raises :class:`lrf.errors.GateError` when more is unscored than the pipeline allows."""
    candidates, unscored, limit = counts["candidates"], counts["unscored"], context.pipeline.max_unscored
    if candidates and unscored / candidates > limit:
        raise GateError(
            unscored_message(context.run_dir, counts["reasons"], unscored=unscored, candidates=candidates, limit=limit)
        )
