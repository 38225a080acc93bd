"""The cluster that TF_CONFIG describes."""

import pytest
from clusters import tf_config

from speech.engines.cluster import Cluster, parse_cluster
from utils import UserError


def test_first_worker_is_the_chief_and_a_chief_comes_before_the_workers() -> None:
    two = ["a:1", "b:2"]
    assert parse_cluster(tf_config("worker", 0, worker=two)) == Cluster(("a:1", "b:2"), 0)
    assert parse_cluster(tf_config("worker", 0, worker=two)).chief
    assert not parse_cluster(tf_config("worker", 1, worker=two)).chief
    with_chief = Cluster(("c:3", "a:1", "b:2"), 2)
    assert parse_cluster(tf_config("worker", 1, worker=two, chief=["c:3"])) == with_chief
    assert parse_cluster(tf_config("chief", 0, worker=two, chief=["c:3"])).chief


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "requires the cluster in the environment variable TF_CONFIG"),
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "'task'"),
        (tf_config("worker", 0, worker=["a"]), "can't be read"),
        (tf_config("worker", 2, worker=["a:1", "b:2"]), "worker 2 of 2"),
        (tf_config("worker", -1, worker=["a:1", "b:2"]), "worker -1 of 2"),
        (tf_config("worker", 0), "names 0 workers"),
        (tf_config("ps", 0, worker=["a:1"]), "a 'ps'"),
        (tf_config("worker", 0, worker=["a:1"], evaluator=["b:2"]), "has evaluator in"),
    ],
)
def test_impossible_cluster_is_named(text: str, part: str) -> None:
    with pytest.raises(UserError) as error:
        parse_cluster(text)
    assert part in str(error.value) and "TF_CONFIG" in str(error.value)
