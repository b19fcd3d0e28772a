"""What `lrf report` takes, how large its page is, and how soon a browser shows it; prints JSON.

    python benchmarks/report_page.py [--samples 300] [--candidates 10] [--characters 12000]

The run is made here: documents, answers and analyses are sentences of lrf's own documentation in a random order; four
dimensions a candidate; up to eight statements an answer, its own sentences, each judged on five chunks and with an
analysis that quotes one of them. *shown*: from opening the file to
the overview; *sample*: from there to a sample's answers; *scrolled*: the longest frame while that is scrolled through.
They need playwright and the system's Chromium, and are left out without.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from score_http import machine

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from hostile import write_run
from lrf.types import Candidate, Document, JudgedStatement, Judgement, Note, Reward, Sample, Span

DIMENSIONS = ("helpfulness", "logicality", "completeness")
LONGEST_FRAME = """async () => {
    let [last, longest] = [performance.now(), 0];
    for (let i = 0; i < 60; i += 1) {
        scrollBy(0, 300);
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        [last, longest] = [now, Math.max(longest, now - last)];
    }
    return longest;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--characters", type=int, default=12_000, help="of a sample's document")
    parser.add_argument("--page", type=Path, help="keep the page here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = write_run(Path(temporary) / "run", made(arguments))
        page = Path(temporary) / "report.html"
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "lrf", "report", str(run), "-o", str(page)], check=True, stdout=sys.stderr
        )
        figures: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 2)}
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        figures["cpu_seconds"] = round(used.ru_utime + used.ru_stime, 2)
        figures["peak_mib"] = round(used.ru_maxrss / 1024)
        figures["mb"] = round(page.stat().st_size / 1e6, 2)
        figures |= shown(page)
        if arguments.page:
            shutil.copy(page, arguments.page)
    settings = {name: getattr(arguments, name) for name in ("samples", "candidates", "characters")}
    print(json.dumps({**settings, "machine": machine(), **figures}, indent=2))


def made(arguments: argparse.Namespace) -> Iterator[tuple[Sample, list[Reward]]]:
    docs = Path(__file__).parents[1] / "docs"
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(docs.rglob("*.md")))
    sentences = [s.strip() for s in re.findall(r"[A-Z][^.|`#]{40,200}\.", text)]
    chance = random.Random(0)

    def some(characters: int) -> str:
        written = ""
        while len(written) < characters:
            written += chance.choice(sentences).replace("\n", " ") + " "
        return written[:characters]

    for number in range(arguments.samples):
        document = Document("0", some(arguments.characters))
        candidates = tuple(Candidate(str(i), some(900)) for i in range(arguments.candidates))
        notes = tuple(Note(Span("0", at, at + 4000), some(200)) for at in range(0, arguments.characters - 4000, 4000))
        rewards = []
        for candidate in candidates:
            judged = {name: Judgement(chance.randint(0, 10), some(300)) for name in DIMENSIONS}
            judged["completeness"] = Judgement(chance.randint(0, 10), some(300), notes=notes)
            statements = []
            for sentence in re.findall(r"[A-Z].*?\.(?= |$)", candidate.text)[:8]:
                starts = sorted(chance.sample(range(0, arguments.characters - 500, 500), 5))
                evidence = tuple(Span("0", start, start + 500) for start in starts)
                verdict, support = chance.choice(
                    (("No support", 0.0), ("Partially supported", 0.5), ("Fully supported", 1.0))
                )
                said = document.text[starts[2] : starts[2] + 120]
                analysis = f'It says that {sentence} The document says "{said}". Rating: [[{verdict}]]'
                statements.append(JudgedStatement(sentence, verdict, support, evidence, analysis))
            judged["faithfulness"] = Judgement(chance.uniform(0, 10), statements=tuple(statements))
            ratings = {name: j.rating for name, j in judged.items()}
            reward = sum(ratings.values()) / len(ratings)
            rewards.append(Reward(str(number), candidate.id, reward, ratings, None, judged))
        yield Sample(str(number), some(80), (document,), candidates), rewards


def shown(page: Path) -> dict[str, float]:
    """Seconds until the browser shows the parts of the page; empty where there is no browser."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if chromium is None:
        return {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("section svg[role=img]")
        overview = time.perf_counter() - began
        began = time.perf_counter()
        tab.evaluate("() => { location.hash = '#/sample/7' }")
        tab.wait_for_selector("article.candidate")
        sample = time.perf_counter() - began
        longest = tab.evaluate(LONGEST_FRAME)
        browser.close()
    return {"shown_s": round(overview, 2), "sample_s": round(sample, 2), "longest_frame_ms": round(longest)}


if __name__ == "__main__":
    main()
