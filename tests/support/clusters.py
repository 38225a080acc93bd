"""Describes clusters as launchers do, by TF_CONFIG."""

import json


def tf_config(kind: str, index: int, **jobs: list[str]) -> str:
    """Returns the TF_CONFIG of task `index` of job `kind`; jobs: addresses of each job."""
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})
