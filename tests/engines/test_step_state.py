"""The state that a step leaves."""

import tensorflow as tf

from speech.engines import step_state
from speech.engines.engine import StepState


def test_state_is_that_of_the_last_step_and_counts_the_skipped_ones() -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        loss, finite = (tf.compat.v1.placeholder(dtype, []) for dtype in (tf.float32, tf.bool))
        with tf.control_dependencies([step_state.update(step, loss, finite)]):
            advance = step.assign_add(1)
        reader = step_state.StepReader()
        session.run(tf.compat.v1.global_variables_initializer())
        assert reader.read(session) == StepState(0, 0.0, 0, 0)
        found = []
        for value, is_finite in ((5.0, True), (0.0, False), (4.0, True), (0.0, False)):
            session.run(advance, {loss: value, finite: is_finite})
            found.append(reader.read(session))
    assert found == [
        StepState(1, 5.0, 0, 0),
        StepState(2, None, 1, 2),
        StepState(3, 4.0, 1, 2),
        StepState(4, None, 2, 4),
    ]
