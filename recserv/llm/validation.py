"""Validates what a model wrote before it is shown: an answer -> a text for each product, or a reason to discard it.

    pieces of text -> AnswerReader -> complete "label": "text" pairs, as they arrive -> judge -> texts
                                   -> at the end: is the whole of it the one JSON object that was asked for?

Strict: only labels that were asked for, each once; plain text of bounded length; no addresses, no markup, no words of
the instructions, no number that the data does not hold, no item id. What does not pass is discarded, never repaired.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import msgspec

from recserv.llm.prompts import SYSTEM, TEXT_CHARS_MAX, Prompt

KnownId = Callable[[str], bool]
"""Whether a word is the id of some product of the shop."""

ANSWER_CHARS_MAX = 64 * 1024
_PHRASE_WORDS = 4
_KNOWN_ID_CHARS_MIN = 4
_SPACE = re.compile(r"[ \t\r\n]*")
_PAIR = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*([,}])', re.DOTALL)
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n\s*```\s*$", re.DOTALL)
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_TOKEN = re.compile(r"[^\s,;:!?()\"“”„«»]+")
_ADDRESS = re.compile(
    r"://|//|www\.|\bhttps?\b|\bmailto\b|\bjavascript\b|\S@\S|[^\W_][.][a-z]{2,}\b|\b\d{1,3}(?:\.\d{1,3}){3}\b",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[<>{}\[\]`*#_|\\^~=$]|&\w+;|&#")
_ABOUT_ITSELF = re.compile(
    r"\b(system prompt|prompts?|instructions?|language model|as an ai|ai assistant|assistant|json|chatbot|llm|gpt|"
    r"api key|password|ignore (?:all|any|the|previous)|disregard|override|developer mode|jailbreak|user message)\b",
    re.IGNORECASE,
)
_PLAIN_CATEGORIES = ("L", "M", "N")
_PLAIN_OTHERS = frozenset(
    " .,;:!?'\"()-&/%+"
    "\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2013\u2014\u2026\u00b0\u00ae\u2122\u00d7\u20ac\u00a3\u00a5\u00bf\u00a1\u00b7"
)
"""Quotation marks, dashes, ellipsis, degree, trade marks, times, currencies."""
_ENDS = ".!?\u2026"
_EDGES = ".'\u2019\u2013-\u2014\u2026%/&+\u20ac\u00a3\u00a5"
_decode_text = msgspec.json.Decoder(str).decode
_decode_answer = msgspec.json.Decoder(dict[str, str]).decode


def _phrases(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return frozenset(tuple(words[at : at + _PHRASE_WORDS]) for at in range(len(words) - _PHRASE_WORDS + 1))


_OUR_PHRASES = _phrases(SYSTEM)


def judge(text: str, prompt: Prompt, known_id: KnownId) -> str:
    """Why the text must not be shown, as one of a few fixed words; empty if it may be."""
    if not text or len(text) > TEXT_CHARS_MAX or (len(text) >= TEXT_CHARS_MAX - 1 and text[-1] not in _ENDS):
        # At the limit and without an end of sentence: it was cut off.
        return "length"
    if any(c not in _PLAIN_OTHERS and unicodedata.category(c)[0] not in _PLAIN_CATEGORIES for c in text):
        return "markup" if _MARKUP.search(text) else "characters"
    if _ADDRESS.search(text):
        return "address"
    if _MARKUP.search(text):
        return "markup"
    if _ABOUT_ITSELF.search(text) or not _OUR_PHRASES.isdisjoint(_phrases(text)):
        return "instructions"
    if len(_WORD.findall(text)) < 2:
        return "length"
    if any(_foreign_number(token, prompt.data) for token in _TOKEN.findall(text.casefold())):
        return "number"
    if any(_is_id(token, known_id) for token in _TOKEN.findall(text)):
        return "item_id"
    return ""


def _foreign_number(token: str, data: str) -> bool:
    """A word with a digit that the data does not hold as a word."""
    token = token.strip(_EDGES)
    return any(c.isdigit() for c in token) and re.search(rf"(?<!\w){re.escape(token)}(?!\w)", data) is None


def _is_id(token: str, known_id: KnownId) -> bool:
    bare = token.strip(_EDGES)
    return any(
        len(word) >= _KNOWN_ID_CHARS_MIN and any(c.isdigit() or c in "-_" for c in word) and known_id(word)
        for word in (token, bare)
    )


class Verdicts(msgspec.Struct):
    """`texts` by label; `discarded`: how often for which reason."""

    texts: dict[str, str] = {}
    discarded: dict[str, int] = {}

    def discard(self, reason: str, count: int = 1) -> None:
        self.discarded[reason] = self.discarded.get(reason, 0) + count


class AnswerReader:
    """Reads one answer while it arrives. `landed(label, text)` hears of each text that passed, once."""

    def __init__(self, prompt: Prompt, known_id: KnownId, landed: Callable[[str, str], None]):
        self._prompt, self._known_id, self._landed = prompt, known_id, landed
        self._text = ""
        self._at = 0
        self._open = False
        self._seen: set[str] = set()
        self.verdicts = Verdicts()

    def feed(self, piece: str) -> None:
        """More of the answer. Complete pairs are judged at once."""
        if len(self._text) > ANSWER_CHARS_MAX:
            return
        self._text += piece
        if not self._open:
            start = _SPACE.match(self._text)
            at = start.end() if start else 0
            if not self._text.startswith("{", at):
                # It may be in a code fence; that shows at the end.
                return
            self._open, self._at = True, at + 1
        while (pair := _PAIR.match(self._text, self._at)) is not None:
            self._at = pair.end()
            self._take(pair[1], pair[2])

    def finish(self, *, cut: bool) -> bool:
        """At the end of the answer: whether it was the JSON object that was asked for. `cut`: at the token limit, then
        its complete pairs count and the rest is missing.
        """
        text = self._text
        fenced = _FENCE.match(text)
        if fenced is not None:
            text = fenced[1]
        if len(text) > ANSWER_CHARS_MAX:
            self.verdicts.discard("schema")
            return False
        try:
            pairs = _decode_answer(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            if not cut:
                self.verdicts.discard("schema")
            return cut and bool(self.verdicts.texts)
        for label, value in pairs.items():
            if label not in self._seen:
                self._judge(label, value)
        return bool(pairs)

    def _take(self, label: str, text: str) -> None:
        try:
            pair = _decode_text(label), _decode_text(text)
        except (msgspec.MsgspecError, UnicodeError):
            self.verdicts.discard("schema")
            return
        self._judge(*pair)

    def _judge(self, label: str, value: str) -> None:
        if label in self._seen:
            self.verdicts.discard("repeated")
            return
        self._seen.add(label)
        if label not in self._prompt.labels:
            self.verdicts.discard("unknown_item")
            return
        text = " ".join(unicodedata.normalize("NFC", value).split(" ")).strip()
        reason = judge(text, self._prompt, self._known_id)
        if reason:
            self.verdicts.discard(reason)
            return
        self.verdicts.texts[label] = text
        self._landed(label, text)
