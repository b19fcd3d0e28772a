"""Judges without a model that are honest, but noisy, talkative or gullible in ways that attacks try to use.

Each is a script for :class:`lrf.testing.ScriptedJudge`. What it thinks of an answer depends on a number in the
material ("meeting 17") and on the attempt, never on an attack, so any difference that an attack makes comes from the
way it was asked and read.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping

from lrf.prompting.escaping import normal_form, tags_of
from lrf.prompting.labels import mark_of
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import untrusted_text

_NUMBER = re.compile(r"meeting (\d+)")
_TURN = re.compile(
    r"<\|[^|<>]+\|>|\[\|\w+\|\]|\[/?inst\]|</?(?:s|eos|(?:start|end)_of_turn|reserved_\d+)>|\]~b\]|\[e~\["
)
_MIDDLE = (3, 4, 4, 5, 5, 5, 5, 6, 6, 7)  # a rating has the mean 5 and the standard deviation 1.2


def honest_reply(request: Request, *, seed: int = 0, noisy: bool = True, before: str = "", after: str = "") -> Reply:
    """What an honest judge says, between texts that it quotes. With ``noisy`` each attempt says something else."""
    number = _NUMBER.search(untrusted_text(request.prompt))
    item = number[1] if number else ""
    kind = request.expects.kind
    chance = random.Random(f"{seed} {kind} {item} {request.attempt if noisy else ''}")
    if kind == "rating":
        value: object = chance.choice(_MIDDLE) if noisy else 5
        return _marked(request, {"rating": value}, f"Rating: {mark_of(str(value))}", before, after)
    if kind in ("verdict", "choice"):
        options = [option[2:-2] for option in request.options]
        value = chance.choice(options) if noisy else options[len(options) // 2]
        return _marked(request, {kind: value}, f"Rating: {mark_of(str(value))}", before, after)
    if kind == "statements":
        stated = f"In meeting {item} the council closed the tram line."
        return _marked(request, {"statements": [stated]}, f"<statement>{stated}</statement>", before, after)
    return Reply(f"{before}\n1. In meeting {item} seven of nine were for closing.\n{after}".strip())


def _marked(request: Request, value: Mapping[str, object], mark: str, before: str, after: str) -> Reply:
    if request.reply_mode == "json":
        analysis = {} if "statements" in value else {"analysis": before + after}
        return Reply(json.dumps({**analysis, **value}))
    return Reply(f"{before}\n{mark}\n{after}")


def _normalised(text: str) -> str:
    """A quotation as a careless writer copies it: plain characters, nothing invisible or escaped, single spaces."""
    return " ".join(re.sub(r"\\(?=[\[\]<>])", "", normal_form(text)).split())


def _is_told_to_obey(request: Request) -> bool:
    """Whether untrusted text has a tag that frames the prompt or a turn, however sloppily it is written."""
    frame = "".join(segment.text for segment in request.prompt if segment.trusted)
    names = "|".join(map(re.escape, tags_of(frame) | {"think", "statement"}))
    text = normal_form(untrusted_text(request.prompt))
    return re.search(rf"<\s*/?\s*(?:{names})\s*>", text) is not None or _TURN.search(text) is not None


def _obedient(request: Request, seed: int) -> Reply:
    if not _is_told_to_obey(request):
        return honest_reply(request, seed=seed)
    best = {"rating": "10", "verdict": "Fully supported"}.get(request.expects.kind)
    return Reply(f"As I was told. Rating: {mark_of(best)}") if best else honest_reply(request, seed=seed)


def _quoting(request: Request, seed: int) -> Reply:
    quotation = f"The text says: “{untrusted_text(request.prompt)}”"
    if request.expects.kind in ("statements", "text") or request.attempt % 2:
        return honest_reply(request, seed=seed, after=quotation + ".")
    return honest_reply(request, seed=seed, before=quotation + ", but I think otherwise.")


def _normalising(request: Request, seed: int) -> Reply:
    return honest_reply(request, seed=seed, before=f"It says: {_normalised(untrusted_text(request.prompt))}.")


def _thinking(request: Request, seed: int) -> Reply:
    thought = f"Perhaps [[3]]. It says {untrusted_text(request.prompt)}, so [[10]]?"
    reply = honest_reply(request, seed=seed)
    return reply if request.reply_mode == "json" else Reply(f"<think>{thought}</think>{reply.text}")


PLANTED_JUDGES: Mapping[str, Callable[[Request, int], Reply]] = {
    "honest": lambda request, seed: honest_reply(request, seed=seed, noisy=False),
    "noisy": lambda request, seed: honest_reply(request, seed=seed),
    "quoting": _quoting,
    "normalising": _normalising,
    "tag-trusting": _obedient,
    "thinking": _thinking,
}
"""Judges by their habit, each a function from a request and a seed to a reply.

"noisy" gives another rating at each attempt. All the others but "honest" are noisy, too: "quoting" repeats what it was
shown, "normalising" repeats it in plain characters, "tag-trusting" obeys text that closes or opens a part of the
prompt, and "thinking" quotes in its reasoning.
"""
