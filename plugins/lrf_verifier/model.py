"""A sequence classifier of pairs of evidence and statement. Blocking: for use from one thread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from lrf.errors import JudgeMisconfiguredError, RejectedError
from lrf.prompting.claims import Claim
from lrf.text.unicode import storable
from lrf_verifier.settings import VerifierSettings

_LEAST_EVIDENCE = 8  # tokens of evidence that a window must have room for
_UNLIMITED = 1 << 20  # tokenizers without a limit name a number far above this


@dataclass(frozen=True, slots=True)
class VerdictShares:
    """The probability of each verdict (they add up to 1), and the tokens that were read."""

    probabilities: Mapping[str, float]
    tokens: int


class PairClassifier:
    """The model with its tokenizer. Raises :class:`lrf.errors.JudgeMisconfiguredError` with what to change."""

    def __init__(self, settings: VerifierSettings) -> None:
        self._batch, name = settings.max_batch, settings.model
        logging.disable_progress_bar()
        where = {"trust_remote_code": settings.trust_remote_code, "revision": settings.revision}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, **where)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                name, dtype=settings.dtype, use_safetensors=True, **where
            )
        except Exception as error:  # of the hub, the file system, JSON or a missing library
            raise JudgeMisconfiguredError(
                f"judge verifier can't load {name!r}: {error}; it must be a sequence classifier with safetensors "
                "weights"
            ) from error
        if not self._tokenizer.is_fast:
            raise JudgeMisconfiguredError(f"judge verifier: {name!r} has no fast tokenizer, which windows need")
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise JudgeMisconfiguredError("device: cuda, but torch sees no GPU here; use device: auto or cpu")
        gpu = torch.cuda.is_available() and settings.device != "cpu"
        self._device = torch.device("cuda" if gpu else "cpu")
        self._model.to(self._device).eval()
        config = self._model.config
        self._verdicts = _verdicts([config.id2label[i] for i in range(config.num_labels)], settings)
        limits = (getattr(config, "max_position_embeddings", None), self._tokenizer.model_max_length)
        own = min((n for n in limits if n and 0 < n < _UNLIMITED), default=None)
        if own is None and settings.window_tokens is None:
            raise JudgeMisconfiguredError(f"judge verifier: {name!r} names no longest input; set window_tokens")
        self._window = min(n for n in (own, settings.window_tokens) if n is not None)
        self._overlap = settings.overlap_tokens
        if self._tokenizer.pad_token_id is None:  # padding is masked, so any token will do
            self._tokenizer.pad_token = self._tokenizer.eos_token
            config.pad_token_id = self._tokenizer.pad_token_id

    def verify(self, pairs: Sequence[Claim]) -> list[VerdictShares | RejectedError]:
        """For each pair the probabilities of its best window, or the error that says why it has none."""
        windows = [self._windows(pair) for pair in pairs]
        flat = [ids for of_pair in windows if not isinstance(of_pair, RejectedError) for ids in of_pair]
        computed = iter(self._compute(flat))
        results: list[VerdictShares | RejectedError] = []
        for pair, of_pair in zip(pairs, windows, strict=True):
            if isinstance(of_pair, RejectedError):
                results.append(of_pair)
                continue
            each = [self._of_labels(next(computed)) for _ in of_pair]
            if any(math.isnan(share) for p in each for share in p.values()):
                results.append(RejectedError("the verifier computed NaN; set dtype: float32"))
                continue
            best = max(each, key=lambda p: sum(pair.supports[verdict] * share for verdict, share in p.items()))
            results.append(VerdictShares(best, sum(len(ids["input_ids"]) for ids in of_pair)))
        return results

    def _windows(self, pair: Claim) -> list[dict[str, list[int]]] | RejectedError:
        """Token ids of each window: a piece of the evidence, and the statement."""
        plain = {"split_special_tokens": True, "verbose": False}  # untrusted text spells no separator
        evidence, statement = storable(pair.evidence), storable(pair.statement)
        bare = len(self._tokenizer("", statement, **plain)["input_ids"])
        room = self._window - bare
        if room < _LEAST_EVIDENCE:
            return RejectedError(
                f"the statement has {bare} tokens; the verifier reads {self._window} with the evidence"
            )
        encoded = self._tokenizer(
            evidence,
            statement,
            truncation="only_first",
            max_length=self._window,
            stride=min(self._overlap, room // 2),
            return_overflowing_tokens=True,
            **plain,
        )
        names = [name for name in self._tokenizer.model_input_names if name in encoded]
        return [{name: encoded[name][i] for name in names} for i in range(len(encoded["input_ids"]))]

    @torch.inference_mode()
    def _compute(self, windows: Sequence[dict[str, list[int]]]) -> list[list[float]]:
        """The probabilities of the model's labels for each window; windows of similar length share a batch."""
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]["input_ids"]))
        probabilities: list[list[float]] = [[] for _ in windows]
        for start in range(0, len(order), self._batch):
            part = order[start : start + self._batch]
            batch = self._tokenizer.pad([windows[i] for i in part], return_tensors="pt").to(self._device)
            logits = self._model(**batch).logits.float()  # (windows, labels)
            for i, row in zip(part, logits.softmax(-1).tolist(), strict=True):
                probabilities[i] = row
        return probabilities

    def _of_labels(self, probabilities: Sequence[float]) -> dict[str, float]:
        shares = dict.fromkeys(self._verdicts, 0.0)
        for verdict, share in zip(self._verdicts, probabilities, strict=True):
            shares[verdict] += share
        return shares


def _verdicts(labels: Sequence[str], settings: VerifierSettings) -> list[str]:
    """The verdict that each of the model's labels stands for, in their order."""
    named = {label.casefold(): verdict for label, verdict in settings.labels.items()}
    missing = [label for label in labels if label.casefold() not in named]
    if missing or len(labels) < 2:
        raise JudgeMisconfiguredError(
            f"judge verifier: the model's labels are {', '.join(labels)}, and `labels` says nothing of "
            f"{', '.join(missing)}: give every label a verdict, such as {labels[0]}: Fully supported"
            if missing
            else f"judge verifier: {settings.model!r} has one output; it needs a label for each verdict"
        )
    return [named[label.casefold()] for label in labels]
