"""The words that say why a candidate is unscored, or a sample has no candidates or no pair."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self


class Reason(StrEnum):
    """Why a candidate is unscored, a sample has no candidates or no pair: the words that lrf and its plugins use.

    A member is its word (``Reason.NO_RATING == "no_rating"``). ``sentence`` says for people what happened, and
    ``concerns`` where the word is found: "candidate" (:class:`lrf.types.Unscored`), "sample" (``left_out`` of
    ``candidates.jsonl``) or "pair" (:class:`lrf.types.LeftOut`). Plugins of others may give words of their own.
    """

    sentence: str
    concerns: Literal["candidate", "sample", "pair"]

    def __new__(
        cls, word: str, sentence: str = "", concerns: Literal["candidate", "sample", "pair"] = "candidate"
    ) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        member.concerns = concerns
        return member

    # a judge's reply can't be read
    NO_RATING = "no_rating", "Five replies without a rating."
    NO_VERDICT = "no_verdict", "Five replies without a verdict."
    NO_STATEMENT_MARK = "no_statement_mark", "Five replies with neither a statement nor the mark that there is no one."
    EMPTY_REPLY = "empty_reply", "Five empty replies."
    AMBIGUOUS_RATING = "ambiguous_rating", "Two different ratings in the last of five replies."
    NO_CHOICE = "no_choice", "Five replies without a choice (yes or no)."
    AMBIGUOUS_CHOICE = "ambiguous_choice", "Two different choices in the last of five replies."
    NO_ANSWER = "no_answer", "A judge that decides left this question out of its reply."
    AMBIGUOUS_VERDICT = "ambiguous_verdict", "Two different verdicts in the last of five replies."
    RATING_OUT_OF_RANGE = "rating_out_of_range", "A number outside 0 to 10."
    TRUNCATED_REPLY = (
        "truncated_reply",
        "Cut off at the token limit, five times, although the limit was doubled each time (up to 8,192); or a last "
        "statement that isn't closed, five times.",
    )
    INVALID_JSON = "invalid_json", "Five replies that should be a JSON object and are not."
    NO_STATEMENTS_LIST = "no_statements_list", "Five JSON objects without a list of statements."
    NO_PROBABILITIES = "no_probabilities", "Five replies without probabilities over the options."
    FILTERED = "filtered", "The judge's content filter held the reply back."
    NO_REPLY = "no_reply", "The judge was asked no question."

    # a server gives no reply
    JUDGE_ERROR = "judge_error", "The judge's own code raised an error."
    EMBEDDER_ERROR = "embedder_error", "The embedder's own code raised an error."
    MACHINE_ERROR = (
        "machine_error",
        "Memory, files, threads or the network failed a component. The same command asks again.",
    )
    RATE_LIMITED = "rate_limited", "The server kept asking to wait. The same command asks again."
    JUDGE_UNAVAILABLE = (
        "judge_unavailable",
        "The server could not be reached or was overloaded, five times. The same command asks again.",
    )
    JUDGE_TIMED_OUT = "judge_timed_out", "No reply in time, five times. The same command asks again."
    JUDGE_BAD_REPLY = (
        "judge_bad_reply",
        "The server answered five times with something that is not a reply. The same command asks again.",
    )
    JUDGE_REJECTED = (
        "judge_rejected",
        "The server refuses this request (for its content, for instance). The same command asks again.",
    )
    JUDGE_MISCONFIGURED = (
        "judge_misconfigured",
        "No request can succeed: wrong key, unknown model, account in arrears. The run stops.",
    )
    CONTEXT_TOO_SMALL = (
        "context_too_small",
        "Prompt and reply don't fit the model's `context_window`, and nothing was sent; or the server says that they "
        "don't fit, and the same command asks again.",
    )
    PROMPT_CUT = (
        "prompt_cut",
        "The server counted less than half of the prompt's tokens, or said so: it dropped a part of the prompt.",
    )
    REPLY_MODE_NOT_POSSIBLE = (
        "reply_mode_not_possible",
        "The judge can't be asked for what the dimension needs.",
    )

    # an embedder
    EMBEDDER_REFUSED = "embedder_refused", "The embedder refuses a text (a chunk or a statement), for its length, say."
    EMBEDDER_UNAVAILABLE = (
        "embedder_unavailable",
        "The embedder could not be reached or didn't reply, five times. The same command asks again.",
    )
    EMBEDDER_BAD_VECTORS = (
        "embedder_bad_vectors",
        "The embedder gave no vectors five times, or useless ones (all zero, all equal, not finite). The same command "
        "asks again.",
    )

    # a retriever
    RETRIEVER_UNAVAILABLE = "retriever_unavailable", "The Qdrant server stayed away. The same command asks again."
    RETRIEVER_INCOMPLETE = "retriever_incomplete", "The Qdrant server lost chunks. The same command asks again."
    RETRIEVER_ERROR = "retriever_error", "The retriever's own code raised an error."
    WRONG_EVIDENCE = (
        "wrong_evidence",
        "A retriever of a third party gave a chunk that is not `document[start:end]`, chunks out of order, one twice, "
        "too many, or not a list for each query.",
    )

    # a dimension or an aggregator
    NO_STATEMENTS = "no_statements", "Faithfulness: the answer makes no factual statement (`no_statements: unscored`)."
    TOO_MANY_STATEMENTS = "too_many_statements", "Faithfulness: more statements than `max_statements`."
    EMPTY_DOCUMENT = (
        "empty_document",
        "Faithfulness and completeness: there is no text to compare the answer with.",
    )
    TOO_LONG = "too_long", "Classifier: prompt and answer don't fit the reward model's window."
    SPECIAL_TOKEN = "special_token", "Classifier: a text spells one of the reward model's special tokens."
    CHAT_TEMPLATE = "chat_template", "Classifier: the reward model's chat template refuses the turns."
    NO_NUMBER = "no_number", "Classifier: the reward model's output is not a number."
    NO_RUBRIC = "no_rubric", "The row has no rubric of its own, and the pipeline none for all rows."
    INVALID_RUBRIC = "invalid_rubric", "The row's own rubric can't be read; the detail says what is wrong with it."
    NO_REFERENCE = "no_reference", "What is asked needs the reference answer, and the row has none."
    NO_JUDGE = "no_judge", "The dimension asks a judge, and its plugin doesn't name one under `needs`."
    NO_RETRIEVER = "no_retriever", "The dimension asks for evidence, and its plugin doesn't name it under `needs`."
    DIMENSION_ERROR = "dimension_error", "The dimension's own code raised an error."
    NO_REWARD = "no_reward", "The aggregator made no reward although all ratings are there."
    REWARD_OUT_OF_RANGE = (
        "reward_out_of_range",
        "The aggregator made a reward outside 0 to 10, or outside the range that it states.",
    )

    # a sample without candidates
    NO_CANDIDATES = "no_candidates", "None of the sampled candidates was kept.", "sample"
    SAMPLER_ERROR = "sampler_error", "The sampler's own code raised an error.", "sample"

    # a sample without a pair
    TOO_FEW_SCORED = "too_few_scored", "`best_worst`: fewer scored candidates than `min_candidates`.", "pair"
    TIE = (
        "tie",
        "`best_worst`: all rewards are equal; or, with `ties: left_out`, several share the highest or the lowest.",
        "pair",
    )
    NO_MARGIN = "no_margin", "`best_worst`: highest and lowest reward are less than `margin` apart.", "pair"
    SAME_TEXT = "same_text", "Chosen and rejected would be the same text, but for white space around it.", "pair"
    EXPLAINED_BY_LENGTH = (
        "explained_by_length",
        "`above_noise`: the rewards differ by no more than the answers' lengths explain.",
        "pair",
    )
    NO_STRONG = "no_strong", "`contrast`: no candidate of a strong source.", "pair"
    NO_WEAK = "no_weak", "`contrast`: no candidate of a weak source.", "pair"
