"""Server-sent events of a streamed chat completion: bytes in, pieces of text out.

    bytes -> lines -> `data:` payloads -> chunks -> text, finish reason, usage

Strict: a payload that is not a chunk, or is too long, ends the stream (BadAnswer). The caller discards a stream that
ends without a finish reason.
"""

from __future__ import annotations

import msgspec

from recserv.llm.base import BadAnswer, Usage

LINE_BYTES_MAX = 64 * 1024
_DONE = b"[DONE]"


class WireUsage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Delta(msgspec.Struct):
    content: str | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    usage: WireUsage | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def usage_of(wire: WireUsage | None) -> Usage | None:
    """None if it is absent or impossible."""
    if wire is None or wire.prompt_tokens < 0 or wire.completion_tokens < 0:
        return None
    return Usage(wire.prompt_tokens, wire.completion_tokens)


class ChatStream:
    """Collects one streamed answer. `finish_reason` empty until the provider says that the answer is whole."""

    def __init__(self) -> None:
        self._rest = b""
        self.finish_reason = ""
        self.usage: Usage | None = None
        self.done = False

    def feed(self, data: bytes) -> str:
        """The text that `data` completes. Raises BadAnswer."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            raise BadAnswer("a line of the stream has no end", self.usage)
        return "".join([self._line(line) for line in lines])

    def _line(self, line: bytes) -> str:
        if self.done or not line.startswith(b"data:"):
            # Comments, event names and blank lines between events.
            return ""
        payload = line[5:].strip()
        if payload == _DONE:
            self.done = True
            return ""
        try:
            chunk = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadAnswer("a chunk of the stream is not what the protocol says", self.usage) from error
        self.usage = usage_of(chunk.usage) or self.usage
        text = ""
        for choice in chunk.choices:
            if choice.index == 0:
                text += choice.delta.content or ""
                self.finish_reason = choice.finish_reason or self.finish_reason
        return text
