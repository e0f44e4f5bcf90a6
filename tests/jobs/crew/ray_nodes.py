"""A Ray cluster of several node processes on loopback, for tests: a process that stands for the machines.

Run as ``python -m tests.jobs.crew.ray_nodes CPUS...``, the head's first.

Prints its address once all nodes are there. A line on stdin kills the last node while an actor on it does a
part; the end of stdin ends it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from forwardpass.jobs.crew.cluster import choose_cluster

MEMORY = 100 * 2**20  # bytes of a node's object store


def wait_until_busy(node: Any, seconds: float = 60) -> None:
    """Until an actor that does parts runs on the node: Ray names its process after what it does."""
    raylet = node.all_processes["raylet"][0].process.pid
    end = time.monotonic() + seconds
    while time.monotonic() < end and not any("MapWorker" in title and ")." in title for title in titles(raylet)):
        time.sleep(0.02)
    assert time.monotonic() < end, "no actor of the last node did a part"


def titles(parent: int) -> list[str]:
    """What the children of a process are called."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")  # a thread's each
    children = [child for task in tasks for child in task.read_text().split()]
    return [Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace") for child in children]


def main(cpus: list[int]) -> None:
    choose_cluster("local")  # loopback
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cpus[0], "include_dashboard": False, "object_store_memory": MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    others = [cluster.add_node(num_cpus=count, object_store_memory=MEMORY) for count in cpus[1:]]
    print(f"address={cluster.address}", flush=True)
    for _ in sys.stdin:
        node = others.pop()
        wait_until_busy(node)
        cluster.remove_node(node, allow_graceful=False)  # all of its processes, by SIGKILL
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
