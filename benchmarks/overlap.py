"""How well ``overlap`` tells true statements from planted errors, English and Chinese apart, and how fast it is.

    python benchmarks/overlap.py [--json] [--handbook FOLDER] [--longreward FOLDER] [--data FILE] [--fit]
    python benchmarks/overlap.py [--json] --unseen [--llmbar FOLDER]

Without options it judges the statements of overlap_statements.jsonl that were not tuned on. ``--handbook`` (see
handbook.py) and ``--longreward`` (LongReward's data/example) add statements on real texts. ``--data`` judges a file of
your own instead: JSON Lines of ``{"document", "statement", "label", "lang"}``, where a label is 1 for a statement that
the document supports and 0 for one that it doesn't. ``--fit`` prints the weights of plugins/lrf_overlap/probability.py.

Intervals are of 95%, by 1,000 draws of documents with their statements, or of statements where there is
one document.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from handbook import SECTIONS, paragraphs
from planted_errors import Row, planted

from lrf.evaluation import planting
from lrf.text.languages import language_of
from lrf_overlap.evidence import evidence_of
from lrf_overlap.features import FEATURES, features
from lrf_overlap.probability import probability

HERE = Path(__file__).parent
LANGUAGES = ("en", "zh")


def by_hand(split: str) -> Iterator[Row]:
    """The statements of overlap_statements.jsonl."""
    for line in (HERE / "overlap_statements.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == split:
            yield from (Row(row["document"], s, 1, row["lang"], "true", "by hand") for s in row["true"])
            for kind, statements in row["false"].items():
                yield from (Row(row["document"], s, 0, row["lang"], kind, "by hand") for s in statements)


def on_real_texts(handbook: Path | None, longreward: Path | None, split: str) -> Iterator[Row]:
    """Planted errors: in every second section of the handbook, tuned on or not, and in LongReward's example."""
    rng = random.Random(1)
    if handbook is not None:
        for number, section in enumerate(SECTIONS):
            if (number % 2 == 0) == (split == "tune"):
                pairs = paragraphs(handbook, number + 1)[len(paragraphs(handbook, number)) :]
                for lang, texts in (("en", [e for e, _ in pairs]), ("zh", [z for _, z in pairs if z])):
                    yield from planted("\n".join(texts), lang, f"handbook {section}", 12, rng)
    if longreward is not None and split == "test":
        row = json.loads((longreward / "sft.jsonl").read_text("utf-8").splitlines()[0])
        yield from planted(row["context"], "en", "longreward", 40, rng)


def unseen(llmbar: Path | None) -> Iterator[Row]:
    """Statements on documents that nobody tuned on: by hand, and errors planted by the rules of `lrf audit`.

    Those rules are others; they are used on the quickstart's four documents and on the answers of LLMBar that have at
    least 600 characters. True are the sentences in the audit's other words.
    """
    yield from by_hand("unseen")
    folder = HERE.parent / "examples" / "quickstart" / "documents"
    texts = [file.read_text("utf-8") for file in sorted(folder.iterdir())]
    if llmbar is not None:
        rows = json.loads((llmbar / "natural.json").read_text("utf-8"))
        texts += [row[key] for row in rows for key in ("output_1", "output_2") if len(row[key]) >= 600]
    chance = random.Random(2)
    for text in texts:
        names = planting.names_in(text)
        for sentence in planting.true_sentences(text):
            window = text[max(0, sentence.start - 600) : sentence.start + len(sentence.text) + 600]
            yield Row(window, planting.paraphrased(sentence), 1, sentence.language, "true", "audit")
            for kind in planting.KINDS[:-1]:
                if wrong := planting.corrupted(sentence, kind, chance, names):
                    yield Row(window, wrong, 0, sentence.language, kind, "audit")
            other = chance.choice([s.text for t in texts if t != text for s in planting.true_sentences(t)])
            if language_of(other) == sentence.language:
                yield Row(window, other, 0, sentence.language, planting.KINDS[-1], "audit")


def read(file: Path) -> Iterator[Row]:
    """The rows of a file, one at a time."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = json.loads(line)
                if missing := {"document", "statement", "label", "lang"} - row.keys():
                    sys.exit(
                        f"{file}:{number}: {min(missing)!r} is missing; a row has document, statement, label, lang"
                    )
                yield Row(
                    row["document"], row["statement"], int(row["label"]), row["lang"], row.get("kind", ""), "data"
                )


def auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """The share of pairs of a true and a false statement where the true one has the higher score; ties count half."""
    true, false = (np.array([s for s, y in zip(scores, labels, strict=True) if y == of]) for of in (1, 0))
    if not len(true) or not len(false):
        return float("nan")
    false.sort()
    lower, upper = np.searchsorted(false, true, "left"), np.searchsorted(false, true, "right")
    return float((lower + upper).sum() / 2 / len(true) / len(false))


def interval(rows: Sequence[Row], scores: Sequence[float], draws: int = 1000) -> tuple[float, float]:
    """The interval of the AUC, by drawing documents."""
    groups: dict[object, list[int]] = defaultdict(list)
    several = len({row.document for row in rows}) > 1
    for n, row in enumerate(rows):
        groups[row.document if several else n].append(n)
    members, rng, values = list(groups.values()), np.random.default_rng(0), []
    for _ in range(draws):
        drawn = [n for g in rng.integers(len(members), size=len(members)) for n in members[g]]
        values.append(auc([scores[n] for n in drawn], [rows[n].label for n in drawn]))
    low, high = np.nanquantile(values, (0.025, 0.975))
    return round(float(low), 3), round(float(high), 3)


def speed(rows: Sequence[Row], repeats: int = 5) -> tuple[float, tuple[float, float]]:
    """Statements a second of CPU, from text to probability, nothing kept beforehand; the slowest and fastest run."""
    from lrf_overlap import alignment, quantities, sentences, words

    kept = (evidence_of, sentences.analysed, alignment.pieces_of, quantities.quantities_of, words.word_of, words.stem)
    rates = []
    for _ in range(repeats):
        for cached in kept:
            cached.cache_clear()
        began = time.process_time()
        for row in rows:
            probability(features(evidence_of(row.document), row.statement), row.lang)
        rates.append(len(rows) / (time.process_time() - began))
    return round(float(np.median(rates))), (round(min(rates)), round(max(rates)))


def fit(rows: Sequence[Row], *, steps: int = 4000, penalty: float = 2e-3) -> None:
    """Print weights: a logistic regression on the features, no weight below 0, so that what is wrong never helps.

    Kinds of errors count the same, what was written by hand three times as much as what rules planted, and true and
    false statements do together.
    """
    for lang in LANGUAGES:
        mine = [row for row in rows if row.lang == lang]
        x = np.array([features(evidence_of(r.document), r.statement) for r in mine])
        y = np.array([r.label for r in mine], dtype=float)
        sizes: dict[tuple[str, bool], int] = defaultdict(int)
        for r in mine:
            sizes[r.kind, r.source == "by hand"] += 1
        weight = np.array([(1 + 2 * (r.source == "by hand")) / sizes[r.kind, r.source == "by hand"] for r in mine])
        for label in (0, 1):
            weight[y == label] /= 2 * weight[y == label].sum()
        w, b = np.zeros(x.shape[1]), 1.0
        for _ in range(steps):
            error = weight * (1 / (1 + np.exp(-(b - x @ w))) - y)
            b -= 4 * error.sum()
            w = np.maximum(0, w - 4 * (-x.T @ error + penalty * w))
        print(lang, round(b, 2), {name: round(float(v), 2) for name, v in zip(FEATURES, w, strict=True)})


def results(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of these rows."""
    report: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for lang in LANGUAGES:
        mine = [row for row in rows if row.lang == lang]
        scores = [probability(features(evidence_of(r.document), r.statement), lang) for r in mine]
        labels = [r.label for r in mine]
        if len(set(labels)) < 2:
            continue
        report[f"auc_{lang}"], report[f"auc_{lang}_interval"] = round(auc(scores, labels), 3), interval(mine, scores)
        details[lang] = {"statements": len(mine), "brier": round(float(np.mean((np.array(scores) - labels) ** 2)), 3)}
        for kind in sorted({r.kind for r in mine if not r.label and r.kind}):
            of = [n for n, r in enumerate(mine) if r.label or r.kind == kind]
            details[lang][kind] = round(auc([scores[n] for n in of], [labels[n] for n in of]), 3)
        for source in sorted({r.source.split()[0] for r in mine}):
            of = [n for n, r in enumerate(mine) if r.source.startswith(source)]
            details[lang][f"from {source}"] = round(auc([scores[n] for n in of], [labels[n] for n in of]), 3)
    report["statements_per_s"], report["statements_per_s_range"] = speed(rows)
    return {**report, "by_kind": details}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--handbook", type=Path)
    parser.add_argument("--longreward", type=Path)
    parser.add_argument("--unseen", action="store_true", help="other documents, and other rules of planting")
    parser.add_argument("--llmbar", type=Path, help="LLMBar's folder with natural.json, for --unseen")
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    if given.fit:
        fit([*by_hand("tune"), *on_real_texts(given.handbook, given.longreward, "tune")])
        return
    rows: Iterable[Row]
    if given.data or given.unseen:
        rows = read(given.data) if given.data else unseen(given.llmbar)
    else:
        rows = [*by_hand("test"), *on_real_texts(given.handbook, given.longreward, "test")]
    rows = list(rows)
    print(json.dumps(results(rows), ensure_ascii=False, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
