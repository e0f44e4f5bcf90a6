"""A Ray cluster of several node processes on loopback, for tests: a process that stands for the machines.

Run as ``python -m tests.jobs.crew.ray_nodes CPUS...``, the head's first.

Prints its address once all nodes are there. A line on stdin kills the last node; the end of stdin ends it.
"""

from __future__ import annotations

import sys

from forwardpass.jobs.crew.cluster import choose_cluster

MEMORY = 100 * 2**20  # bytes of a node's object store


def main(cpus: list[int]) -> None:
    choose_cluster("local")  # loopback
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cpus[0], "include_dashboard": False, "object_store_memory": MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    others = [cluster.add_node(num_cpus=count, object_store_memory=MEMORY) for count in cpus[1:]]
    print(f"address={cluster.address}", flush=True)
    for _ in sys.stdin:
        cluster.remove_node(others.pop(), allow_graceful=False)  # all of its processes, by SIGKILL
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
