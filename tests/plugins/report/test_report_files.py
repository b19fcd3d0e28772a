"""`lrf report`: the files that it writes, without a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import lrf
import lrf_report.html
from hostile import HOSTILE, sample_of, write_run
from lrf.cli.main import invoke
from lrf.text.redaction import hide
from lrf.types import Judgement

ALLOWED = {"html", "head", "meta", "title", "style", "body", "div", "noscript", "script"}


class Parsed(HTMLParser):
    """The elements of a page, its scripts by type, and its Content-Security-Policy."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.blocks: dict[str, str] = {}
        self.policy = ""
        self._open: dict[str, str | None] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        self._open = values if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            if "type" in self._open:
                self.blocks[str(self._open["id"])] = data
            else:
                self.scripts.append(data)
            self._open = None

    def value(self, block: str) -> Any:
        return json.loads(gzip.decompress(base64.b64decode(self.blocks[block])))


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "{{7*7}}<script>alert(1)"
    return write_run(folder, (sample_of(i, text) for i, text in enumerate(HOSTILE)), note=" ".join(HOSTILE[:40]))


def test_whatever_the_data_says_the_page_has_only_its_own_elements_and_scripts(
    hostile_run: Path, tmp_path: Path
) -> None:
    assert len(HOSTILE) >= 60
    output = tmp_path / "report.html"
    assert invoke(["report", str(hostile_run), "-o", str(output)]) == 0
    page = output.read_text(encoding="utf-8")
    parsed = Parsed(page)
    assert set(parsed.tags) <= ALLOWED
    hashes = re.findall(r"'sha256-([^']+)'", parsed.policy)
    assert [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in parsed.scripts] == hashes
    assert "default-src 'none'" in parsed.policy
    assert "connect-src" not in parsed.policy
    assert page.count("<script") == len(hashes) + 1 + len(HOSTILE)
    assert "49" not in page[page.index("<title") : page.index("</title")]
    for number, sample in enumerate(lrf.load_run(hostile_run)):
        assert parsed.value(f"block-{number}") == json.loads(json.dumps(lrf_report.html.brief(sample.facts())))


def test_markdown_shows_what_the_data_says_as_code(hostile_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.md"
    assert invoke(["report", str(hostile_run), "-o", str(output)]) == 0
    outside = re.sub(r"`[^`\n]*`", "", output.read_text(encoding="utf-8"))
    assert "<" not in outside
    assert "javascript" not in outside
    assert "](" not in outside
    tables = re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE)
    assert len(tables) > len(HOSTILE)
    assert all(len({row.count("|") for row in table.splitlines()}) == 1 for table in tables)


def test_json_has_the_same_facts_with_the_words_of_the_documents(hostile_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    assert invoke(["report", str(hostile_run), "-o", str(output), "--against", str(hostile_run)]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    assert len(report["samples"]) == len(report["overview"]["samples"]) == len(HOSTILE)
    for text, sample in zip(HOSTILE, report["samples"], strict=True):
        (judgement,) = sample["candidates"][0]["judgements"].values()
        assert judgement["statements"][0]["closest"]["words"] == text
    assert report["comparison"]["moved"] == []
    assert report["comparison"]["same_best"] == 1


def test_a_large_run_becomes_pages_and_every_sample_is_on_the_one_that_the_index_names(
    hostile_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lrf_report.html, "PAGE_BYTES", 30_000)
    output = tmp_path / "report.html"
    assert invoke(["report", str(hostile_run), "-o", str(output)]) == 0
    overview = Parsed(output.read_text(encoding="utf-8")).value("head")["overview"]
    pages = {path.name: Parsed(path.read_text(encoding="utf-8")) for path in (tmp_path / "report_samples").iterdir()}
    assert len(pages) > 2
    found = [(f"report_samples/{name}", id_) for name, page in pages.items() for id_ in page.value("head")["ids"]]
    assert sorted(found) == sorted((entry["page"], entry["id"]) for entry in overview["samples"])
    for page in pages.values():
        ids = page.value("head")["ids"]
        assert [page.value(f"block-{i}")["id"] for i in range(len(ids))] == ids


def test_a_secret_of_this_process_is_in_no_report(tmp_path: Path) -> None:
    secret = "sk-12345678-very-secret"
    run = write_run(tmp_path / "run", [sample_of(0, f"the key is {secret}")], note=secret)
    hide(secret, "KEY")
    for name in ("r.html", "r.md", "r.json"):
        assert invoke(["report", str(run), "-o", str(tmp_path / name)]) == 0
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("r.md", "r.json")]
    parsed = Parsed((tmp_path / "r.html").read_text(encoding="utf-8"))
    texts += [json.dumps(parsed.value(block)) for block in parsed.blocks]
    assert not any(secret in text for text in texts)
    assert all("${KEY}" in text for text in texts)


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json"])
def test_what_an_audit_found_is_shown_and_another_file_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [sample_of(0, "text")])
    audit = tmp_path / "audit.json"
    share = {"value": 0.876, "low": 0.8, "high": 0.9}
    found = {"judges": {"<b>main": {"balanced_accuracy": share, "pairwise": share, "n": 60}}, "alarms": ["length"]}
    audit.write_text(json.dumps({**found, "not_better_than": ["overlap"], "ece": 0.1}))
    assert invoke(["report", str(run), "-o", str(tmp_path / name), "--audit", str(audit)]) == 0
    text = (tmp_path / name).read_text(encoding="utf-8")
    if name == "r.html":
        assert Parsed(text).value("head")["overview"]["audit"]["judges"] == found["judges"]
    else:
        assert "0.876" in text
        assert "overlap" in text
    audit.write_text('{"judges": []}')
    assert invoke(["report", str(run), "-o", str(tmp_path / name), "--audit", str(audit)]) == 2
    assert "expected what `lrf audit PIPELINE --json` prints" in capsys.readouterr().err


def test_the_files_ending_says_which_form_is_wanted(
    hostile_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["report", str(hostile_run), "-o", str(tmp_path / "report.pdf")]) == 2
    assert "expected a file that ends in .html, .htm, .md, .json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_script_of_the_page_can_end_the_element_around_it() -> None:
    for name in lrf_report.html.SCRIPTS:
        text = files("lrf_report").joinpath(name).read_text(encoding="utf-8")
        assert "</script" not in text.lower(), name
        assert "<!--" not in text, name
        assert "\r" not in text, name


def test_the_bundle_has_the_versions_that_its_licences_name() -> None:
    folder = files("lrf_report").joinpath("libraries")
    wanted = json.loads(folder.joinpath("package.json").read_text(encoding="utf-8"))["dependencies"]
    licences = folder.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    for name, version in wanted.items():
        assert f"\n{name} {version} (" in licences


LIBRARIES = Path(lrf_report.html.__file__).parent / "libraries"


def test_the_bundle_of_libraries_is_that_of_its_sources() -> None:
    recorded = json.loads((LIBRARIES / "libraries.json").read_text())
    assert {"build.mjs", "entry.js", "package-lock.json", "libraries.js", "LICENSES.txt"} <= recorded.keys()
    for name, digest in recorded.items():
        assert hashlib.sha256((LIBRARIES / name).read_bytes()).hexdigest() == digest, f"{name}: npm ci && npm run build"


@pytest.mark.slow
def test_building_the_bundle_again_gives_the_same_bytes(tmp_path: Path) -> None:
    if shutil.which("npm") is None or subprocess.run(["npm", "ping"], capture_output=True, cwd=tmp_path).returncode:
        pytest.skip("building the bundle of libraries needs npm and its registry")
    built = shutil.copytree(LIBRARIES, tmp_path / "libraries")
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=built, check=True)
    for name in ("libraries.js", "LICENSES.txt", "libraries.json"):
        (built / name).unlink()
    subprocess.run(["npm", "run", "build"], cwd=built, check=True)
    for name in ("libraries.js", "LICENSES.txt", "libraries.json"):
        assert (built / name).read_bytes() == (LIBRARIES / name).read_bytes(), name


AUDITED = {"judges": {"reward": {"balanced_accuracy": {"value": 0.75}, "n": 40}}, "alarms": [], "not_better_than": []}


def test_the_audit_beside_a_run_is_in_its_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [sample_of(0, "text")])
    audit = write_run(tmp_path / "run-audit", [sample_of(0, "text")])
    (audit / "audit.json").write_text(json.dumps(AUDITED))
    for note, other in (("", False), ("another judge", True)):
        write_run(tmp_path / "run-audit", [sample_of(0, "text")], note)
        assert invoke(["report", str(run), "-o", str(tmp_path / "report.json")]) == 0
        found = json.loads((tmp_path / "report.json").read_text())["audit"]
        assert found == {**AUDITED, "other_judges": other}
    (audit / "audit.json").write_text("{")
    assert invoke(["report", str(run), "-o", str(tmp_path / "report.json")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["audit"] is None


def test_a_rubrics_items_are_shown_the_costliest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [
        {"item": "numbers", "weight": 3, "score": 0.9, "gate": False},
        {"item": "invents", "weight": -2, "score": 1.0, "gate": False},
        {"item": "language", "weight": 1, "score": None, "reason": "cut_off"},
    ]
    sample, rewards = sample_of(0, "text")
    judged = {"rubric": Judgement(4.0, "said", "rubric", extra={"items": items})}
    rewards[0] = replace(rewards[0], ratings={"rubric": 4.0}, judgements=judged)
    run = write_run(tmp_path / "run", [(sample, rewards)])
    assert invoke(["show", str(run), sample.id]) == 0
    shown = capsys.readouterr().out
    order = [shown.index(line) for line in ("unscored (cut_off) language", "1.00 invents (weight -2)", "0.90 numbers")]
    assert order == sorted(order)
    assert invoke(["report", str(run), "-o", str(tmp_path / "report.md")]) == 0
    assert "0.90: `numbers` (weight 3)" in (tmp_path / "report.md").read_text()
