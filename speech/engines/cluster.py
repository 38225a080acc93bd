"""The processes that train together, as the environment variable TF_CONFIG describes them."""

import json
from dataclasses import dataclass

from utils import UserError

# Values of --distribution.
MIRRORED = "mirrored"
MULTI_WORKER = "multi_worker"

# The variable by which TensorFlow and its launchers describe a cluster to each of its processes.
TF_CONFIG = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True)
class Cluster:
    """The processes that train together, called workers; the first one is the chief."""

    workers: tuple[str, ...]  # host:port, the chief first
    index: int  # of this process

    @property
    def chief(self) -> bool:
        """Whether this process is the chief."""
        return self.index == 0


def parse_cluster(text: str) -> Cluster:
    """Parses a TF_CONFIG; a task of type chief becomes the first worker.

    Raises:
        UserError: it describes no cluster, or this process isn't in it.
    """
    if not text:
        raise UserError(
            f"--distribution={MULTI_WORKER} requires the cluster in the environment variable "
            f"{TF_CONFIG}, with another index for each process: {TF_CONFIG}='{EXAMPLE}'."
        )
    try:
        content = json.loads(text)
        jobs, task = dict(content["cluster"]), content["task"]
        kind, number = task["type"], int(task["index"])
        chiefs, workers = list(jobs.pop("chief", [])), list(jobs.pop("worker", []))
        ports = [int(each.rpartition(":")[2]) for each in (*chiefs, *workers)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{TF_CONFIG}={text} can't be read ({error!r}): write it as in {EXAMPLE}."
        ) from None
    if jobs:
        raise UserError(
            f"{TF_CONFIG} has {', '.join(sorted(jobs))} in its cluster: list only workers; the "
            "first one also evaluates on the development set."
        )
    if not ports or kind not in ("chief", "worker"):
        raise UserError(
            f"{TF_CONFIG} names {len(ports)} workers, and this process is a {kind!r}: name "
            f"workers, and be one of them, as in {EXAMPLE}."
        )
    own = chiefs if kind == "chief" else workers
    if not 0 <= number < len(own):
        raise UserError(
            f"{TF_CONFIG} says that this process is {kind} {number} of {len(own)}: count from 0."
        )
    index = number if kind == "chief" else len(chiefs) + number
    return Cluster((*chiefs, *workers), index)
