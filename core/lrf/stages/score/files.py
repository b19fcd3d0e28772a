"""A sample's row in the journal, and the files of stage *score*, which are made of these rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lrf.errors import GateError
from lrf.stages.run_dir import RunDir
from lrf.stages.score.alarms import Alarms
from lrf.stages.score.rows import judgement_row, reward_row
from lrf.store.files import dump, replacing
from lrf.store.spool import Spool
from lrf.types import Judgement, Reward, Sample

SEPARATOR = "\x1e"  # between a sample's rows for the two files; JSON escapes it within a row


def journal_row(rewards: tuple[Reward, ...], sample: Sample) -> str:
    """Rows of rewards, rows of judgements, lengths of the candidates' texts, and what the judgements count."""
    return SEPARATOR.join(
        (
            "\n".join(dump(reward_row(r)) for r in rewards),
            "\n".join(dump(judgement_row(r)) for r in rewards),
            str([len(c.text) for c in sample.candidates]),
            dump(numbers) if (numbers := {**_counted(rewards), **_known_best(rewards, sample)}) else "{}",
        )
    )


def _counted(rewards: Iterable[Reward]) -> Mapping[str, Mapping[str, int]]:
    """The whole numbers in ``extra`` of the judgements, added up by dimension."""
    counted: dict[str, Counter[str]] = {}
    for name, judgement in (item for reward in rewards for item in reward.judgements.items()):
        extra = judgement.extra if isinstance(judgement, Judgement) else {}
        if numbers := {key: n for key, n in extra.items() if type(n) is int}:
            counted.setdefault(name, Counter()).update(numbers)
    return counted


def _known_best(rewards: Sequence[Reward], sample: Sample) -> Mapping[str, Mapping[str, int]]:
    """How often the candidate that the row's metadata names as ``known_best`` is above another one of the sample."""
    best = next((r for r in rewards if r.candidate_id == sample.metadata.get("known_best")), None)
    if best is None:
        return {}
    wins = Counter({"compared": len(rewards) - 1})
    for other in rewards:
        for name, rating in {"reward": best.reward, **best.ratings}.items():
            against = other.reward if name == "reward" else other.ratings[name]
            wins[f"{name} higher"] += rating is not None and against is not None and rating > against
    return {"known best": wins}


@dataclass(slots=True)
class ScoreFiles:
    """Writes the two files, row by row, and counts what is in them."""

    alarms: Alarms
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rated: Counter[str] = field(default_factory=Counter)
    counted: dict[str, Counter[str]] = field(default_factory=dict)

    def write(self, run: RunDir, spool: Spool, stage: str) -> None:
        """Raises :class:`lrf.errors.GateError` when candidates don't add up."""
        with replacing(run.rewards) as rewards, replacing(run.judgements) as judgements:
            for transient, row in spool.rows(stage):
                reward_lines, judgement_lines, lengths, numbers = row.split(SEPARATOR)
                self.counts["samples"] += 1
                self.counts["transient"] += transient
                for name, of_sample in json.loads(numbers).items() if numbers != "{}" else ():
                    self.counted.setdefault(name, Counter()).update(of_sample)
                if reward_lines:
                    self._count(reward_lines.split("\n"), json.loads(lengths))
                    rewards.write(reward_lines + "\n")
                    judgements.write(judgement_lines + "\n")
        if self.counts["candidates"] != self.counts["scored"] + self.counts["unscored"]:
            raise GateError(f"candidates don't add up: {dict(self.counts)}")

    def _count(self, lines: Sequence[str], lengths: Sequence[int]) -> None:
        for line, length in zip(lines, lengths, strict=True):
            row = json.loads(line)
            self.alarms.add(row["ratings"], row["reward"], length)
            self.counts["candidates"] += 1
            self.counts["scored" if row["reward"] is not None else "unscored"] += 1
            if unscored := row["unscored"]:
                self.reasons[f"{unscored['dimension']}: {unscored['reason']}"] += 1
            for name, rating in row["ratings"].items():
                self.rated[name] += rating is not None
