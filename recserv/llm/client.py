"""A client for any OpenAI-compatible endpoint: chat completions, streamed and not, and embeddings.

    request -> slot -> key -> POST -> status -> body, read under a cap -> answer
                        ^ 401: next key               or LlmFailure

httpx has timeouts per phase but none overall, and cancelling it can leak slots of its pool. So an exchange runs as a
task that is never cancelled from outside: it ends by its own limits, while its caller stops waiting at the deadline.
Fewer exchanges run at once than the pool has slots; if the pool is exhausted nevertheless, it is replaced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec

from recserv.llm.answers import Body, check_body, embeddings_of, failure_of, whole_answer
from recserv.llm.base import BadAnswer, KeyRefused, LlmFailure, ProviderDown, TimedOut, Usage
from recserv.llm.keys import KeyRing
from recserv.llm.sse import ChatStream
from recserv.resilience.deadline import Deadline

logger = logging.getLogger("recserv.llm")
# They would log every step of every call; what matters is counted and logged here.
for _chatty in ("httpx", "httpcore"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)

ANSWER_BYTES_MAX = 1024 * 1024
ERROR_BYTES_MAX = 16 * 1024
CONNECT_S_MAX = 5.0
POOL_RESERVE = 16
KEEPALIVE_S = 30.0

OnText = Callable[[str], None]


class ChatRequest(msgspec.Struct, frozen=True):
    """`messages`: (role, content). `response_format`: as the provider takes it, None for none."""

    model: str
    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    temperature: float = 0.3
    response_format: dict[str, Any] | None = None
    stream: bool = True
    extra: dict[str, Any] = {}


class ChatAnswer(msgspec.Struct, frozen=True):
    """`finish_reason` length: the text was cut at max_tokens. `usage` None: the provider did not report it."""

    text: str
    finish_reason: str
    usage: Usage | None


class _Exchange:
    """One request in flight, shared by the task that runs it and the caller, who may abandon it."""

    def __init__(self, deadline: Deadline, on_text: OnText | None):
        self.deadline, self.on_text = deadline, on_text
        self.given_up = False
        # The answer, if it is known before the body ends.
        self.early: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def check(self) -> None:
        if self.given_up or self.deadline.remaining_s() <= 0:
            raise TimedOut("the answer did not come in time")


class LlmClient:
    """`base_url` ends where /chat/completions begins. `in_flight_max`: exchanges at once; more wait for a slot."""

    def __init__(
        self,
        base_url: str,
        keys: KeyRing,
        *,
        in_flight_max: int = 50,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ):
        self._base_url = base_url.rstrip("/")
        self._keys = keys
        self._in_flight_max = in_flight_max
        self._answer_bytes_max = answer_bytes_max
        self._places = asyncio.Semaphore(in_flight_max)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._http = self._new_http()

    def _new_http(self) -> httpx.AsyncClient:
        # Proxies and .netrc of the environment must not decide where keys are sent.
        return httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=self._in_flight_max + POOL_RESERVE,
                max_keepalive_connections=self._in_flight_max,
                keepalive_expiry=KEEPALIVE_S,
            ),
            # A compressed answer has no bound on its size once decompressed.
            headers={"accept-encoding": "identity", "user-agent": "recserv"},
        )

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Ends the exchanges in flight. The client cannot be used afterwards."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def chat(self, request: ChatRequest, deadline: Deadline, on_text: OnText | None = None) -> ChatAnswer:
        """The whole answer; `on_text` gets each piece of a streamed one as it arrives. Raises LlmFailure."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            **request.extra,
        }
        if request.response_format is not None:
            body["response_format"] = request.response_format
        if request.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        exchange = _Exchange(deadline, on_text)
        read = self._read_stream if request.stream else self._read_whole
        answer: ChatAnswer = await self._run(exchange, self._post("/chat/completions", body, exchange, read))
        return answer

    async def embed(
        self, model: str, texts: Sequence[str], deadline: Deadline
    ) -> tuple[list[list[float]], Usage | None]:
        """A vector for each text, in order. Raises LlmFailure."""
        exchange = _Exchange(deadline, None)

        async def read(response: httpx.Response, exchange: _Exchange) -> tuple[list[list[float]], Usage | None]:
            return embeddings_of(await self._body(response, exchange, self._answer_bytes_max), len(texts))

        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        vectors: tuple[list[list[float]], Usage | None]
        vectors = await self._run(exchange, self._post("/embeddings", body, exchange, read))
        return vectors

    async def _run(self, exchange: _Exchange, work: Any) -> Any:
        """Waits for the exchange until its deadline; after that the exchange ends by itself."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        try:
            left_s = max(0.0, exchange.deadline.remaining_s())
            await asyncio.wait({task, exchange.early}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            exchange.given_up = True
        if exchange.early.done():
            return exchange.early.result()
        if not task.done():
            raise TimedOut("no answer in time")
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, LlmFailure):
            logger.error("an exchange with the provider broke", exc_info=error)

    async def _post(self, path: str, body: dict[str, Any], exchange: _Exchange, read: Any) -> Any:
        """Tries the keys in turn; any other failure is left to the caller."""
        content = msgspec.json.encode(body)
        async with self._places:
            for _ in range(len(self._keys) + 2):
                exchange.check()
                key = self._keys.current()
                if self._keys.wanted and not key:
                    break
                try:
                    return await self._send(path, content, key, exchange, read)
                except KeyRefused:
                    if not key:
                        raise
                    self._keys.refused(key)
            raise KeyRefused("the provider takes none of the keys")

    async def _send(self, path: str, content: bytes, key: str, exchange: _Exchange, read: Any) -> Any:
        left_s = max(0.001, exchange.deadline.remaining_s())
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        http = self._http
        request = http.build_request(
            "POST",
            self._base_url + path,
            content=content,
            headers=headers,
            timeout=httpx.Timeout(left_s, connect=min(CONNECT_S_MAX, left_s)),
        )
        try:
            response = await http.send(request, stream=True)
            try:
                if response.status_code != 200:
                    error = await self._body(response, exchange, ERROR_BYTES_MAX, cut=True)
                    raise failure_of(response.status_code, response.headers, error.content, time.time())
                return await read(response, exchange)
            finally:
                await response.aclose()
        except httpx.PoolTimeout as error:
            await self._replace(http)
            raise ProviderDown("no room in the connection pool") from error
        except (httpx.ConnectTimeout, httpx.ConnectError) as error:
            raise ProviderDown("no connection to the provider") from error
        except httpx.TimeoutException as error:
            raise TimedOut("the provider fell silent") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _dropped(error) from error

    async def _replace(self, http: httpx.AsyncClient) -> None:
        """A pool that is full while fewer calls run than it has slots has leaked some of them for good."""
        if self._http is http:
            logger.warning("the connection pool is exhausted and is replaced")
            self._http = self._new_http()
            await http.aclose()

    async def _body(self, response: httpx.Response, exchange: _Exchange, bytes_max: int, *, cut: bool = False) -> Body:
        """Everything up to `bytes_max`; more is BadAnswer, or left unread with `cut`."""
        if not cut:
            check_body(response.headers)
        parts, size = [], 0
        async for part in response.aiter_raw():
            exchange.check()
            size += len(part)
            parts.append(part)
            if size > bytes_max:
                if cut:
                    break
                raise BadAnswer(f"the answer has more than {bytes_max} bytes")
        return Body(b"".join(parts)[:bytes_max], response.headers.get("content-type", ""))

    async def _read_whole(self, response: httpx.Response, exchange: _Exchange) -> ChatAnswer:
        text, finish_reason, usage = whole_answer(await self._body(response, exchange, self._answer_bytes_max))
        return ChatAnswer(text, finish_reason, usage)

    async def _read_stream(self, response: httpx.Response, exchange: _Exchange) -> ChatAnswer:
        check_body(response.headers)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            # Some gateways send a complete answer even if a stream was requested.
            return await self._read_whole(response, exchange)
        stream, pieces, size = ChatStream(), [], 0
        async for part in response.aiter_raw():
            exchange.check()
            size += len(part)
            if size > self._answer_bytes_max:
                raise BadAnswer(f"the answer has more than {self._answer_bytes_max} bytes", stream.usage)
            text = stream.feed(part)
            if text:
                pieces.append(text)
                if exchange.on_text is not None:
                    exchange.on_text(text)
            if stream.done and stream.finish_reason and not exchange.early.done():
                # The body is still read to its end: only then can the connection be reused.
                exchange.early.set_result(ChatAnswer("".join(pieces), stream.finish_reason, stream.usage))
        if not stream.finish_reason:
            raise BadAnswer("the stream ended without a finish reason", stream.usage)
        return ChatAnswer("".join(pieces), stream.finish_reason, stream.usage)


def _dropped(error: Exception) -> LlmFailure:
    failure = ProviderDown(f"the connection broke: {type(error).__name__}")
    # The request was sent, so the provider may charge for it.
    failure.billable = True
    return failure
