"""Several Redis servers that belong together: a three-node cluster, and a primary with a replica under Sentinel."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests import tools
from tests.patience import HANG_GUARD_S, eventually
from tests.redis_server import RedisServer, running_redis

CLUSTER_NODES = 3
SERVICE = "shop"


class RedisCluster:
    def __init__(self, nodes: list[RedisServer]):
        self.nodes = nodes

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()


@contextlib.contextmanager
def running_cluster(directory: Path, *more: str) -> Iterator[RedisCluster]:
    """Three primaries that share all slots, made by `redis-cli --cluster create`. `more`: flags of every node."""
    options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
    # Nodes that stood still for a moment, as the machine may, shall not take each other for dead.
    options += ["--cluster-node-timeout", str(round(HANG_GUARD_S * 1000)), *more]
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(CLUSTER_NODES):
            folder = directory / f"node-{number}"
            folder.mkdir()
            nodes.append(stack.enter_context(running_redis(folder, options=options, port_max=CLUSTER_PORT_MAX)))
        addresses = [f"{node.host}:{node.port}" for node in nodes]
        create = [tools.redis_cli(), "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True, timeout=HANG_GUARD_S)
        cluster = RedisCluster(nodes)
        eventually(lambda: all(_cluster_ok(node) for node in nodes), "the cluster is ok")
        yield cluster


# A node listens for the others at its port plus 10,000.
CLUSTER_PORT_MAX = 55_000


def _cluster_ok(node: RedisServer) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(CLUSTER_NODES))


class SentinelGroup:
    """`primary` is the one that it began with."""

    def __init__(self, primary: RedisServer, replica: RedisServer, sentinel: RedisServer):
        self.primary, self.replica, self.sentinel = primary, replica, sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.sentinel.host}:{self.sentinel.port}/{SERVICE}"

    def primary_port(self) -> int:
        with self.sentinel.client() as client:
            return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])


@contextlib.contextmanager
def running_sentinel(directory: Path) -> Iterator[SentinelGroup]:
    with contextlib.ExitStack() as stack:

        def start(name: str, *options: str) -> RedisServer:
            folder = directory / name
            folder.mkdir()
            return stack.enter_context(running_redis(folder, options=options))

        primary = start("primary")
        replica = start("replica", "--replicaof", primary.host, str(primary.port), "--repl-diskless-sync-delay", "0")
        with replica.client() as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up", "the replica has its primary")
        folder = directory / "sentinel"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {SERVICE} {primary.host} {primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        sentinel = stack.enter_context(running_redis(folder, config=config, options=["--sentinel"]))
        with sentinel.client() as client:
            eventually(lambda: client.sentinel_slaves(SERVICE), "the sentinel sees the replica")
        yield SentinelGroup(primary, replica, sentinel)
