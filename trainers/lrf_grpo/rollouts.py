"""Answers on the disk: kept until their step is saved, so that none is written or paid for twice; and logged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrf.protocols import Answers
from lrf.types import Reward
from lrf_training.checkpoint import write_whole
from lrf_training.processes import rank

LOG = "rollouts.jsonl"
"""Every answer with its reward, a line each."""

Written = tuple[list[list[int]], Any]


class Rollouts:
    """The answers of one training in ``folder``.

    A training that resumes takes up answers that were written in the steps since its state was saved: on a GPU the same
    seed needn't give them again, and other answers would have to be paid for. ``fingerprint`` is the training's.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder / "answers", fingerprint
        self._log = folder / LOG

    def _file(self, batch: int) -> Path:
        return self._folder / f"{batch}-{rank()}.json"

    def _key(self, prompts: Sequence[Sequence[int]]) -> str:
        digest = hashlib.sha256(self._fingerprint.encode())
        for prompt in prompts:
            digest.update(repr(list(prompt)).encode())
        return digest.hexdigest()

    def kept(self, batch: int, prompts: Sequence[Sequence[int]]) -> Written | None:
        """This process's answers of the batch, and their log-probabilities if they were kept; None without."""
        with suppress(OSError, ValueError, KeyError):
            row = json.loads(self._file(batch).read_text())
            if row["key"] == self._key(prompts) and len(row["answers"]) == len(prompts):
                return row["answers"], row["log_probs"]
        return None

    def keep(
        self, batch: int, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], log_probs: Any
    ) -> None:
        """Keep answers before they are paid for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = {"key": self._key(prompts), "answers": answers, "log_probs": log_probs}
        write_whole(self._file(batch), json.dumps(kept))

    def drop_before(self, batch: int) -> None:
        """Forget this process's answers of earlier batches: a state that was saved has learnt from them."""
        for file in self._folder.glob(f"*-{rank()}.json"):
            if int(file.name.split("-")[0]) < batch:
                file.unlink(missing_ok=True)

    def begin(self, step: int) -> None:
        """Cut the log to the steps up to this one, from which a training (re)starts. In the first process."""
        if not self._log.exists():
            return
        new = self._log.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            for row in self._rows():
                if row["step"] <= step:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        new.rename(self._log)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self._log.open("rb") as file:
            for line in file:
                with suppress(ValueError):  # the last one of a process that was killed
                    yield json.loads(line)

    def log(self, step: int, answers: Sequence[Answers], rewards: Sequence[Sequence[Reward]]) -> None:
        """Append each answer with its reward and ratings, or why it has none. In the first process."""
        with self._log.open("a", encoding="utf-8") as file:
            for written, of_prompt in zip(answers, rewards, strict=True):
                for text, reward in zip(written.texts, of_prompt, strict=True):
                    row: dict[str, Any] = {"step": step, "sample_id": reward.sample_id, "answer": text}
                    row |= {"reward": reward.reward, "ratings": dict(reward.ratings)}
                    if (why := reward.unscored) is not None:
                        row["unscored"] = {"dimension": why.dimension, "reason": why.reason, "detail": why.detail}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
