"""Settings of the four dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lrf.settings import FilePath, Settings
from lrf.text.tokenizers import DEFAULT, Bundled
from lrf.types import JSON

Language = Literal["en", "zh"]
_READ = (
    "What the judge reads: {} (the paper's way), or the document, too, after which one short question is asked. "
    "document is for judges that decide (`decisions`, `systemone`): the dimensions of a sample share requests."
)
Headings = Literal["plain", "published"]
_HEADINGS = "by numbers alone, or as in LongReward's published prompts, in Chinese."


class PromptSettings(Settings):
    """Settings of all four dimensions: their prompts, and what is explained afterwards."""

    explain: Literal["off", "losers"] = Field(
        "off",
        description="losers: once the answers of a sample are ranked, the `writer` (or a judge that writes) explains "
        "what cost all but the best their rank: up to three statements with the least support, or the rating. For "
        "judges that give probabilities alone; ratings stay as they are.",
    )

    language: Literal["auto", "en", "zh"] = Field(
        "auto", description='Language of the prompts. "auto" follows the sample\'s documents: Chinese, else English.'
    )
    prompts: FilePath | None = Field(
        None,
        description="A folder with prompts of your own, named like the built-in ones (helpfulness.txt, or "
        "zh/helpfulness.txt for one language). A file that isn't there is taken from the built-in prompts.",
    )


class RatedSettings(PromptSettings):
    """Settings of the dimensions that a single question can rate."""

    pack_candidates: bool = Field(
        False,
        description="With `read: document`: one request for all candidates of a sample, each of which the judge then "
        "reads beside the others. Cheaper, but a rating no longer depends on its own answer alone.",
    )
    pack_checked: float = Field(
        0.05,
        ge=0,
        le=1,
        description="With `pack_candidates`: the share of samples whose answers are rated alone, too. The summary says "
        "how many ratings differ by half a point and by one; the packed ones count.",
    )

    @model_validator(mode="after")
    def _needs_the_document(self) -> Self:
        if getattr(self, "read", None) != "document":
            if self.pack_candidates:
                raise ValueError("`pack_candidates: true` needs `read: document`")
            if self.explain != "off":
                raise ValueError("`explain: losers` needs `read: document`; without it the judge's analysis is kept")
        return self


class HelpfulnessSettings(RatedSettings):
    """Settings of ``helpfulness``."""

    read: Literal["answer", "document"] = Field("answer", description=_READ.format("question and answer"))


class LogicalitySettings(RatedSettings):
    """Settings of ``logicality``."""

    read: Literal["answer", "document"] = Field("answer", description=_READ.format("question and answer"))


class FaithfulnessSettings(PromptSettings):
    """Settings of ``faithfulness``."""

    by_method: ClassVar[Mapping[str, Mapping[str, JSON]]] = {
        "paper": {"headings": "published", "repeated_statements": "each"}
    }

    read: Literal["evidence", "document"] = Field(
        "evidence",
        description="What each statement is compared with: the passages that a retriever finds for it (the paper's "
        "way), or the whole document, in pieces where it is longer than the judge's `context_window` (the piece with "
        "most support counts). document needs no retriever, and is for judges that decide.",
    )
    statements: Literal["judge", "sentences"] = Field(
        "judge",
        description="Who breaks the answer into statements: the judge (or `writer`), which resolves pronouns and "
        "leaves out what states no fact; or nobody: its sentences are the statements, as they stand there.",
    )
    verdict: Literal["auto", "labels", "yes_or_no"] = Field(
        "auto",
        description="How it is asked whether a statement is supported: by the paper's three labels, or by yes or no, "
        "whose probability is the support. auto: yes or no of a judge that decides (one with `decides: true` does with "
        "`read: document`), labels of every other one.",
    )
    locate: Literal["words", "retriever", "judge"] = Field(
        "words",
        description="With `read: document`: how the passage is found that a reader should look at. words: by likeness, "
        "when the run is read. retriever: its best chunks are kept as the statement's evidence, which no verdict "
        "depends on. judge: the document is shown in up to 25 numbered passages, and it is asked in the same "
        "request which of them supports each statement best; the `top_k` likeliest (1 by default) that the judge "
        "prefers to none are the evidence.",
    )
    headings: Headings = Field("plain", description=f"How a passage is headed: {_HEADINGS}")
    repeated_statements: Literal["once", "each"] = Field(
        "once", description="Whether a statement that the answer repeats counts once or each time."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Chunks of evidence for each statement. null: the retriever's own number."
    )
    no_statements: Literal["unscored"] | Annotated[float, Field(ge=0, le=10, strict=True)] = Field(
        "unscored",
        description='What an answer without factual statements gets: "unscored", or a rating from 0 to 10.',
    )
    max_statements: int = Field(
        100, ge=1, description="An answer with more factual statements than this is unscored; none is left out unseen."
    )
    near_duplicates: Literal["off", "merge"] = Field(
        "off",
        description="merge: statements with the same words in the same order count once, where punctuation, articles, "
        '"that", "which", "who" and "also" (的, 了, 也, 是) are passed over. Numbers, names and negations must be the '
        "same. Exact repetitions always count once, whatever their case, white space and full stop.",
    )
    second_look: Literal["off", "widen", "neighbours"] = Field(
        "off",
        description="Before a statement counts as unsupported, it is judged once more on more evidence: three times as "
        "many chunks (widen), or the chunks with as much again before and after each (neighbours). Tells what the "
        "document doesn't say from what was not found in it.",
    )
    verdicts_per_call: int = Field(
        1,
        ge=1,
        le=32,
        description="Statements of an answer that one call judges, each on its own evidence. 1 is the paper's; more "
        "cost fewer calls, and need a judge that is held to a JSON schema: others are asked one by one.",
    )

    @property
    def without(self) -> frozenset[str]:
        alone = self.read == "document" and self.locate != "retriever"
        return frozenset({"retriever"}) if alone else frozenset()

    @model_validator(mode="after")
    def _reads_what_it_looks_at_again(self) -> Self:
        if self.read == "document" and (self.second_look != "off" or (self.top_k and self.locate == "words")):
            raise ValueError("`second_look` and `top_k` are about retrieved evidence; leave them out")
        if self.read == "evidence" and self.locate != "words":
            raise ValueError(f"`locate: {self.locate}` needs `read: document`; evidence is retrieved anyway")
        if self.read == "document" and self.verdicts_per_call > 1:
            raise ValueError("with `read: document` a judge that decides gets all statements at once by itself")
        return self


class CompletenessSettings(RatedSettings):
    """Settings of ``completeness``."""

    by_method: ClassVar[Mapping[str, Mapping[str, JSON]]] = {
        "paper": {"headings": "published", "chunk_ends": "token", "empty_notes": "shown"}
    }

    read: Literal["notes", "document"] = Field(
        "notes", description=_READ.format("notes on each part of the document, and question and answer")
    )
    headings: Headings = Field("plain", description=f"How a note is headed: {_HEADINGS}")
    chunk_ends: Literal["sentence", "token"] = Field(
        "sentence",
        description="sentence: a chunk ends where a sentence does if that costs nothing. token: after chunk_tokens "
        "exactly; a note's share of the document is then counted in tokens.",
    )
    empty_notes: Literal["left_out", "shown"] = Field(
        "left_out",
        description='Notes that say "No relevant information": left out of the prompt that rates, or shown in it. '
        "Shown ones also replace notes that contain these words among others.",
    )
    chunk_tokens: int = Field(
        4096, ge=1, description="Tokens of the document that one call reads for its notes, at most."
    )
    tokenizer: Bundled | FilePath = Field(
        DEFAULT,
        description="Tokenizer that counts these tokens: a bundled one, or the path of the judge's own tokenizer.json "
        "(or of its folder).",
    )
    max_notes_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens that the notes may have together in the prompt that rates; if there are more, neighbours "
        "are merged until they fit. null: as many as fit into the judge's `context_window`, and any number where that "
        "isn't known.",
    )
    min_document: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the document, by characters, that notes must have been taken on. With less than 1 an "
        "answer is rated although the judge refused a part; below it the answer is unscored with the refusal's reason.",
    )
