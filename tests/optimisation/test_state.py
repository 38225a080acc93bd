"""The state that a step leaves, and Adam."""

import numpy as np
import tensorflow as tf
from tiny_training import NETWORK

from speech.engines.engine import StepState
from speech.networks import registry
from speech.optimisation.adam import Adam
from speech.optimisation.state import TrainingState


def test_state_is_that_of_the_last_step_and_counts_the_skipped_ones() -> None:
    state = TrainingState(registry.build(NETWORK))

    def read() -> StepState:
        return StepState.of(*(each.numpy() for each in state.of_steps))

    assert read() == StepState(0, 0.0, 0, 0)
    found = []
    for value, is_finite in ((5.0, True), (0.0, False), (4.0, True), (0.0, False)):
        state.count_step(state.step.read_value(), tf.constant(value), tf.constant(is_finite))
        found.append(read())
    assert found == [
        StepState(1, 5.0, 0, 0),
        StepState(2, None, 1, 2),
        StepState(3, 4.0, 1, 2),
        StepState(4, None, 2, 4),
    ]


def test_adam_is_that_of_tensorflow_with_its_names_and_numbers() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape).astype(np.float32) for shape in ([3, 2], [4])]
    gradients = [
        [rng.normal(size=each.shape).astype(np.float32) for each in values] for _ in range(5)
    ]
    rates = [1e-2, 1e-3, 0.0, 1e-2, 1e-1]

    own = [tf.Variable(each, name=f"layer_{n}/kernel") for n, each in enumerate(values)]
    adam = Adam(own)
    for step, rate in zip(gradients, rates, strict=True):
        adam.apply([tf.constant(each) for each in step], tf.constant(rate))

    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        theirs = [tf.Variable(each, name=f"layer_{n}/kernel") for n, each in enumerate(values)]
        rate = tf.compat.v1.placeholder(tf.float32, [])
        fed = [tf.compat.v1.placeholder(tf.float32, each.shape) for each in values]
        pairs = zip(fed, theirs, strict=True)
        step = tf.compat.v1.train.AdamOptimizer(rate).apply_gradients(pairs)
        session.run(tf.compat.v1.global_variables_initializer())
        for each, now in zip(gradients, rates, strict=True):
            session.run(step, {rate: now, **dict(zip(fed, each, strict=True))})
        expected = {each.op.name: session.run(each) for each in graph.get_collection("variables")}
    found = {**adam.saved, **{each.name.removesuffix(":0"): each for each in own}}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-6, err_msg=name)
