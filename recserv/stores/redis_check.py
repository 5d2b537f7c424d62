"""Checks, when the store opens, whether the server's settings make acknowledged events durable.

INFO server, CONFIG GET  -> ServerFacts -> warnings, or UsageError where durability is required
"""

from __future__ import annotations

import re

import msgspec

from recserv.errors import UsageError
from recserv.stores.redis_faults import Fault
from recserv.stores.redis_link import RedisLink, ask

VERSION_MIN = (6, 2)


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`append_only`, `append_fsync`, `eviction` None: the server does not let us look (CONFIG is forbidden)."""

    version: tuple[int, ...]
    append_only: str | None
    append_fsync: str | None
    eviction: str | None


async def read_facts(link: RedisLink) -> ServerFacts:
    """Raises Fault if the server does not answer."""
    info = await ask(link, "INFO", "server")
    found = re.search(rb"redis_version:([\d.]+)", info if isinstance(info, bytes) else b"")
    version = tuple(int(part) for part in found[1].split(b".") if part) if found else ()
    values = {name: await _setting(link, name) for name in ("appendonly", "appendfsync", "maxmemory-policy")}
    return ServerFacts(
        version=version,
        append_only=values["appendonly"],
        append_fsync=values["appendfsync"],
        eviction=values["maxmemory-policy"],
    )


async def _setting(link: RedisLink, name: str) -> str | None:
    try:
        answer = await ask(link, "CONFIG", "GET", name)
    except Fault as fault:
        if fault.cause in ("noperm", "server_error"):
            return None
        raise
    if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], bytes):
        return answer[1].decode("ascii", "replace")
    return None


def check_version(facts: ServerFacts) -> None:
    """Raises UsageError for a server that is too old."""
    if facts.version and facts.version[:2] < VERSION_MIN:
        raise UsageError(f"state: Redis {'.'.join(map(str, facts.version))} is too old, at least 6.2 is needed")


def durability_problems(facts: ServerFacts) -> list[str]:
    """Why an event that was acknowledged may be lost; a sentence each."""
    problems = []
    if None in (facts.append_only, facts.append_fsync, facts.eviction):
        problems.append(
            "CONFIG GET is not allowed, so it is unknown whether acknowledged events are synced and never evicted"
        )
    if facts.append_only == "no":
        problems.append("appendonly is no: a restart loses every event since the last snapshot, or all")
    elif facts.append_fsync not in (None, "always"):
        lost = "about a second of" if facts.append_fsync == "everysec" else "an unknown number of"
        problems.append(f"appendfsync is {facts.append_fsync}: a crash of the machine loses {lost} acknowledged events")
    if facts.eviction not in (None, "noeviction"):
        problems.append(
            f"maxmemory-policy is {facts.eviction}: at the limit of memory Redis drops event ids and profiles"
            " instead of refusing events"
        )
    return problems
