"""The report in a real browser: nothing of the data runs, and a click on a statement shows the right characters."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import lrf
from hostile import HOSTILE, sample_of, write_run
from lrf.cli.main import invoke
from lrf.evaluation.labels import read_labels
from lrf.types import Candidate, Document, JudgedStatement, Judgement, Note, Quotation, Reward, Sample, Span

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the report's pages need the system's Chromium to be tested"),
]


@dataclass
class Visit:
    """A page, and what went wrong on it."""

    page: Any
    problems: list[str] = field(default_factory=list)
    server: str = "none:"

    def asked(self, url: str) -> None:
        """Only files, the page's own data, and the server of the run may be asked for anything."""
        if not url.startswith(("file:", "blob:", self.server)):
            self.problems.append(url)

    def go(self, file: Path, *place: str) -> None:
        """Open the file from disk at a sample or at another part of it."""
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("main h1")
        if place:
            self.page.evaluate("(parts) => { location.hash = '#/' + parts.map(encodeURIComponent).join('/') }", place)
            self.page.wait_for_function(
                "(id) => document.querySelector('h1')?.textContent.trim().startsWith(id)", arg=place[-1].strip()[:60]
            )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the report's pages need playwright to be tested")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """``visit(width=…, dark=…)`` opens an empty page; when the test ends nothing may have gone wrong on it."""
    visits, contexts = [], []

    def start(*, width: int = 1300, height: int = 900, dark: bool = False, locale: str = "en") -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale=locale
        )
        contexts.append(context)
        one = Visit(context.new_page())
        visits.append(one)
        one.page.set_default_timeout(20_000)
        one.page.on("console", lambda m: one.problems.append(m.text) if m.type in ("error", "warning") else None)
        one.page.on("pageerror", lambda error: one.problems.append(str(error)))
        one.page.on("dialog", lambda dialog: (one.problems.append("a dialog"), dialog.dismiss()))
        one.page.on("request", lambda request: one.asked(request.url))
        return one

    yield start
    hits = [one.page.evaluate("window.__hit") for one in visits]
    for context in contexts:
        context.close()
    assert [one.problems for one in visits] == [[] for _ in visits]
    assert hits == [None for _ in visits]


def report(folder: Path, scored: list[tuple[Sample, list[Reward]]], note: str = "") -> Path:
    run = write_run(folder / "run", scored, note)
    assert invoke(["report", str(run), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


def test_hostile_texts_in_every_field_are_shown_and_never_run(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    scored = [sample_of(number, text) for number, text in enumerate(HOSTILE)]
    file = report(tmp_path, scored, note=" ".join(HOSTILE[:50]))
    one = visit()
    one.go(file)
    assert HOSTILE[0] in one.page.text_content("main")
    one.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    for (sample, _), text in zip(scored, HOSTILE, strict=True):
        one.page.evaluate("(id) => { location.hash = '#/sample/' + encodeURIComponent(id) }", sample.id)
        one.page.wait_for_function(
            "(id) => document.querySelector('nav.around .quiet')?.textContent.startsWith(id + ' /')",
            arg=str(int(sample.id.split(" ")[0]) + 1),
        )
        one.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert one.page.text_content(".document .words") == sample.documents[0].text
        one.page.eval_on_selector("button.claim:enabled", "(button) => button.click()")
        assert "".join(one.page.locator("mark.closest").all_text_contents()) == text
        assert one.page.locator("article.candidate").count() == 2
        tags = one.page.evaluate("[...new Set([...document.querySelectorAll('main *')].map((part) => part.localName))]")
        assert not {"script", "iframe", "img", "object", "video", "form", "base", "style", "link", "b"} & set(tags)
        assert not one.page.evaluate("[...document.links].some((link) => link.protocol !== 'file:')")


TEXTS = {
    "English": ("Before it. ", "The council closed the tram line.", " The depot was sold."),
    "Chinese": ("五月三日开会。", "委员会以七票对二票关闭了电车线路。", "车库出售。"),
    "emoji": ("👩‍👩‍👧‍👦 𝒜 first. ", "The 🏳️‍🌈 was 𝓻𝓪𝓲𝓼𝓮𝓭.", " 🎉 So."),
    "right to left": ("נפגשו ביום שלישי. ", "המועצה סגרה את קו הרכבת.", " المرآب بيع."),
}


def judged(before: str, target: str, after: str) -> tuple[Sample, list[Reward]]:
    text = before + target + after
    span, all_of_it = Span("0", len(before), len(before) + len(target)), Span("0", max(0, len(before) - 9), len(text))
    statement = JudgedStatement(
        target, "No support", 0.0, (all_of_it,), "Why.", quotations=(Quotation(target, span, 1.0),)
    )
    judgement = Judgement(0.0, None, "statements", (statement,), (Note(all_of_it, "A note."),))
    sample = Sample("one", "How?", (Document("0", text),), (Candidate("a", "It did."),))
    return sample, [Reward("one", "a", 0.0, {"faithfulness": 0.0}, None, {"faithfulness": judgement})]


IN_SIGHT = """() => {
    const mark = document.querySelector("mark.closest").getBoundingClientRect();
    const pane = document.querySelector(".pane").getBoundingClientRect();
    return mark.top >= Math.max(0, pane.top) && mark.bottom <= Math.min(innerHeight, pane.bottom);
}"""


@pytest.mark.parametrize("width", [360, 1300])
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("repeats", [0, 4_000])
def test_a_click_on_a_statement_shows_its_words_in_the_document(
    name: str, repeats: int, width: int, tmp_path: Path, visit: Callable[..., Visit]
) -> None:
    """With repeats the document has more than 64,000 tokens, and the words are in its middle."""
    before, target, after = TEXTS[name]
    filler = "\n".join(f"{before}{after} {i}" for i in range(repeats))
    file = report(tmp_path, [judged(filler + before, target, after + filler)])
    one = visit(width=width)
    one.go(file, "sample", "one")
    statement = one.page.locator("button.claim")
    statement.click()
    assert one.page.text_content("mark.closest") == target
    one.page.wait_for_function(IN_SIGHT)
    assert one.page.evaluate("document.activeElement.localName") == "mark"
    one.page.keyboard.press("Escape")
    assert one.page.evaluate("document.activeElement.className") == "claim"
    assert one.page.locator("mark").count() == 0


def test_lines_of_two_megabytes_and_halves_of_characters_break_nothing(
    tmp_path: Path, visit: Callable[..., Visit]
) -> None:
    target = "The council closed the tram line."
    sample, rewards = judged("x" * 1_000_000, target, "汉" * 1_000_000)
    sample = Sample(sample.id, "q" * 2_000_000, sample.documents, (Candidate("a", "word " * 400_000),), "r" * 2_000_000)
    judgements = {**rewards[0].judgements, "half": Judgement(1.0, "\ud83d half \udc00" + "n" * 2_000_000)}
    file = report(tmp_path, [(sample, [Reward("one", "a", 0.0, {"faithfulness": 0.0, "half": 1.0}, None, judgements)])])
    one = visit()
    one.go(file, "sample", "one")
    one.page.click("button.claim")
    assert one.page.text_content("mark.closest") == target
    one.page.wait_for_function(IN_SIGHT)
    assert "\ufffd half \ufffd" in one.page.text_content("section[aria-label=half]")
    one.page.click("text=Show all >> nth=0")
    assert len(one.page.text_content(".query")) == 2_000_000
    assert lrf.load_run(tmp_path / "run").to_arrow().num_rows == 1


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 120 samples beside another run of the same samples."""
    folder = tmp_path_factory.mktemp("many")
    scored = []
    for number in range(120):
        sample, rewards = judged("First. ", f"Sentence {number}.", " Last.")
        sample = Sample(f"s{number}", f"Question {number}?", sample.documents, sample.candidates * 1)
        scored.append(
            (sample, [Reward(sample.id, "a", number % 11, {"faithfulness": 0.0}, None, rewards[0].judgements)])
        )
    run = write_run(folder / "run", scored)
    (run / "policy" / "dpo").mkdir(parents=True)
    (run / "policy" / "dpo" / "training_log.jsonl").write_text(
        "".join(f'{{"step": {i}, "loss": {1 / (i + 1)}, "margin": {i}}}\n' for i in range(2_000))
    )
    other = write_run(
        folder / "other",
        [(s, [Reward(s.id, "a", 5.0, {"faithfulness": 1.0}, None, r[0].judgements)]) for s, r in scored],
    )
    assert invoke(["report", str(run), "-o", str(folder / "report.html"), "--against", str(other)]) == 0
    return folder / "report.html"


def test_samples_are_filtered_sorted_and_walked_through_by_the_keyboard(
    many: Path, visit: Callable[..., Visit]
) -> None:
    one = visit()
    one.go(many)
    one.page.keyboard.press("/")
    one.page.wait_for_function("() => document.activeElement?.id === 'filter'")
    one.page.keyboard.type("question 11")
    one.page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 11")
    one.page.select_option("select", "by_lowest")
    one.page.wait_for_function("() => document.querySelectorAll('tbody tr')[1]?.textContent.startsWith('s110')")
    one.page.fill("#filter", "Sentence 77.")
    one.page.wait_for_selector("text=No sample matches.")
    one.page.check("text=also in documents and answers")
    one.page.wait_for_function("() => document.querySelector('tbody a')?.textContent === 's77'")
    one.go(many, "sample", "s118")
    one.page.keyboard.press("n")
    one.page.wait_for_function("() => document.querySelector('h1')?.textContent === 's119'")
    one.page.keyboard.press("p")
    one.page.wait_for_function("() => document.querySelector('h1')?.textContent === 's118'")


def test_the_comparison_and_the_training_have_their_parts(many: Path, visit: Callable[..., Visit]) -> None:
    one = visit(locale="zh-CN")
    one.go(many)
    assert one.page.text_content("nav a") == "概览"
    one.page.click("text=English")
    one.page.click("text=Training")
    one.page.wait_for_selector("svg[role=img]")
    assert one.page.locator("figure").count() == 2
    assert "loss" in one.page.get_attribute("svg[role=img]", "aria-label")
    one.page.click("text=Comparison")
    one.page.click("section[aria-label='Samples that moved most'] tbody a >> nth=0")
    one.page.wait_for_selector("article.candidate")


@pytest.mark.parametrize(("width", "dark"), [(1300, False), (1300, True), (360, False)])
def test_no_part_of_the_page_has_a_serious_fault_of_accessibility_or_is_wider_than_the_screen(
    many: Path, width: int, dark: bool, visit: Callable[..., Visit]
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="accessibility needs axe-playwright-python"
    )
    one = visit(width=width, dark=dark)
    for place in ([""], ["samples"], ["training"], ["comparison"], ["sample", "s7"]):
        one.go(many)
        one.page.evaluate("(parts) => { location.hash = '#/' + parts.join('/') }", place)
        one.page.wait_for_timeout(300)
        if place[0] == "sample":
            one.page.click("button.claim")
        assert serious_faults(axe, one) == [], place
        assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place


def serious_faults(axe: Any, one: Visit) -> list[tuple[str, str]]:
    found = axe.Axe().run(one.page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "dark"), [(1300, True), (360, False)])
@pytest.mark.parametrize("more", [[], ["--ratings"]], ids=["preferences", "ratings"])
def test_labelling_by_keyboard_has_no_serious_fault_of_accessibility_and_is_no_wider_than_the_screen(
    tmp_path: Path, visit: Callable[..., Visit], serve_view: Callable[..., str], more: list[str], width: int, dark: bool
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="accessibility needs axe-playwright-python"
    )
    scored = []
    for number in range(3):
        sample, rewards = sample_of(number, f"Text {number}. " * 200)
        answers = tuple(replace(c, text=f"{c.text} {i}") for i, c in enumerate(sample.candidates))
        scored.append((replace(sample, candidates=answers), rewards))
    address = serve_view(write_run(tmp_path / "run", scored), tmp_path / "labels.csv", *more)
    one = visit(width=width, dark=dark)
    one.server = address.split("?")[0]
    one.page.goto(address)
    one.page.click("nav >> text=Label")
    one.page.wait_for_selector("article.candidate")
    assert serious_faults(axe, one) == []
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    one.page.keyboard.press("4" if more else "b")
    one.page.wait_for_selector("text=1 done")
    labels = read_labels(tmp_path / "labels.csv")
    assert [r.rating for r in labels.ratings] == ([4.0] if more else [])
    assert len(labels.preferences) == (0 if more else 1)


def test_the_server_shows_a_sample_and_takes_labels_by_keyboard(
    tmp_path: Path, visit: Callable[..., Visit], serve_view: Callable[..., str]
) -> None:
    scored = []
    for number, text in enumerate(HOSTILE[:20]):
        sample, rewards = sample_of(number, text)
        answers = tuple(replace(c, text=f"{text} {i}") for i, c in enumerate(sample.candidates))
        scored.append((replace(sample, candidates=answers), rewards))
    address = serve_view(write_run(tmp_path / "run", scored), tmp_path / "labels.csv")
    one = visit()
    one.server = address.split("?")[0]
    one.page.goto(address)
    one.page.click("nav >> text=Samples")
    one.page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 20")
    one.page.fill("#filter", "srcdoc")
    one.page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 1")
    one.page.click("tbody a")
    one.page.wait_for_selector("article.candidate")
    one.page.locator("button.claim:enabled").first.click()
    assert one.page.text_content("mark.closest") == HOSTILE[11]
    one.page.click("nav >> text=Label")
    for key in "absa":
        one.page.wait_for_selector("article[aria-label=A]")
        query = one.page.text_content(".query")
        one.page.keyboard.press(key)
        one.page.wait_for_function(
            "(old) => ![old, undefined].includes(document.querySelector('.query')?.textContent)", arg=query
        )
    assert len((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()) >= 4
    assert len(read_labels(tmp_path / "labels.csv").preferences) == 3


@pytest.fixture
def serve_view() -> Iterator[Callable[..., str]]:
    """``serve_view(run, labels)`` starts `lrf view` and returns its address."""
    started = []

    def start(run: Path, labels: Path, *more: str) -> str:
        command = [sys.executable, "-m", "lrf", "view", str(run), "--port", "0", "--labels", str(labels), *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_report_in_pages_links_to_each_sample_and_back(
    many: Path, visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lrf_report.html.PAGE_BYTES", 20_000)
    output = tmp_path / "large run.html"
    assert invoke(["report", str(many.parent / "run"), "-o", str(output)]) == 0
    one = visit()
    one.go(output)
    one.page.click("nav >> text=Samples")
    one.page.fill("#filter", "s117")
    one.page.click("tbody a")
    one.page.wait_for_function("() => document.querySelector('h1')?.textContent === 's117'")
    one.page.click("text=To the overview")
    one.page.wait_for_selector("#filter")
    assert lrf.load_run(many.parent / "run").without_texts is None


def test_a_page_that_is_open_shows_the_new_rewards_of_a_run_that_is_scored_again(
    tmp_path: Path, visit: Callable[..., Visit], serve_view: Callable[..., str]
) -> None:
    sample, rewards = judged("First. ", "It rained.", " Last.")
    run = write_run(tmp_path / "run", [(sample, rewards)])
    one = visit()
    address = serve_view(run, tmp_path / "labels.csv")
    one.server = address.split("?")[0]
    one.page.goto(address)
    one.page.wait_for_selector("text=Mean 0.00, 1 Candidates")
    write_run(tmp_path / "run", [(sample, [replace(rewards[0], reward=7.5)])])
    one.page.wait_for_selector("text=Mean 7.50, 1 Candidates", timeout=60_000)
    one.page.click("nav >> text=Samples")
    one.page.wait_for_selector("td:has-text('7.50')")
