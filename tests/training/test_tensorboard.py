"""What TensorBoard shows of an evaluation: the event files are read back."""

import html
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from doors import ROOT, environment_of_door
from emulator import Emulator
from full_disk import full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from speech.training import tensorboard
from speech.training.heat_map import Sample, heat_map
from speech.training.history import DevResult
from utils import ENGLISH

RESULT = DevResult(step=300, loss=21.5, wer=0.25, cer=0.125, beam_wer=0.2, beam_cer=0.1, best=True)


def sample_of(utterance_id: str = "84-1-0", seed: int = 0) -> Sample:
    logits = np.random.default_rng(seed).normal(0, 3, [50, ENGLISH.size])
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))  # [outputs, labels]
    return Sample(utterance_id, "a cat", "a cut", "a cat", log_probs.astype(np.float32), 0.02)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint as an estimator's Saver writes it."""
    values = {
        "conv_0/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "conv_0/bias": np.array([1, np.nan, np.inf, 3], np.float32),
        "output/bias": np.full(3, np.nan, np.float32),
        "conv_0/kernel/Adam": np.ones([2, 3, 4], np.float32),
        "conv_0/kernel/Adam_1": np.ones([2, 3, 4], np.float32),
        "beta1_power": np.float32(0.9),
        "plateaus": np.arange(3, dtype=np.int64),
        "global_step": np.int64(300),
    }
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value, use_resource=True)
        session.run(tf.compat.v1.global_variables_initializer())
        path = str(tmp_path_factory.mktemp("model") / "model.ckpt")
        saved: str = tf.compat.v1.train.Saver().save(session, path, global_step=300)
    return saved


def values_in(folder: Path) -> dict[str, tuple[int, Any]]:
    """Tag -> step and value of all event files in a folder."""
    return {
        value.tag: (event.step, tf.make_ndarray(value.tensor))
        for path in sorted(folder.glob("events.*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }


def test_a_result_has_its_scalars_texts_pictures_and_histograms(
    tmp_path: Path, checkpoint: str
) -> None:
    folder = tmp_path / "model" / "dev"
    tensorboard.write_dev_result(str(folder), RESULT, [sample_of()], ENGLISH, checkpoint)
    values = values_in(folder)
    assert {step for step, _ in values.values()} == {300}
    scalars = {tag: float(values[tag][1]) for tag in ("loss", "wer", "cer", "beam_wer", "beam_cer")}
    assert scalars == pytest.approx(
        {"loss": 21.5, "wer": 0.25, "cer": 0.125, "beam_wer": 0.2, "beam_cer": 0.1}
    )
    assert set(values) - set(scalars) == {
        *("samples", "heat_map/84-1-0", "conv_0/kernel", "conv_0/bias")
    }


def test_a_heat_map_is_the_sample_s(tmp_path: Path, checkpoint: str) -> None:
    samples = [sample_of(f"84-1-{i}", seed=i) for i in range(6)]
    tensorboard.write_dev_result(str(tmp_path), RESULT, samples, ENGLISH, checkpoint)
    values = values_in(tmp_path)
    tags = [tag for tag in values if tag.startswith("heat_map/")]
    assert tags == [f"heat_map/84-1-{i}" for i in range(4)]
    width, height, png = values["heat_map/84-1-2"][1]
    assert (width, height) == (b"1000", b"400")
    assert (tf.io.decode_png(png).numpy() == heat_map(samples[2], ENGLISH)).all()


def test_a_histogram_is_of_the_values_that_are_numbers(tmp_path: Path, checkpoint: str) -> None:
    tensorboard.write_dev_result(str(tmp_path), RESULT, [], ENGLISH, checkpoint)
    values = values_in(tmp_path)
    buckets = values["conv_0/kernel"][1]  # [buckets, 3]: left, right, count
    assert buckets[:, 2].sum() == 24
    assert (buckets[0, 0], buckets[-1, 1]) == (0, 23)
    buckets = values["conv_0/bias"][1]
    assert buckets[:, 2].sum() == 2
    assert (buckets[0, 0], buckets[-1, 1]) == (1, 3)


def test_what_was_not_decoded_has_no_scalar_and_what_is_no_number_shows(
    tmp_path: Path, checkpoint: str
) -> None:
    result = replace(RESULT, loss=float("nan"), beam_wer=None, beam_cer=None)
    tensorboard.write_dev_result(str(tmp_path), result, [], ENGLISH, checkpoint)
    values = values_in(tmp_path)
    assert "wer" in values and not {"beam_wer", "beam_cer"} & set(values)
    assert np.isnan(values["loss"][1])


def await_next_second() -> None:
    """TensorBoard orders event files by name: the second, then a counter without leading zeros."""
    time.sleep(1 - time.time() % 1)


def test_tensorboard_reads_one_result_after_another(tmp_path: Path, checkpoint: str) -> None:
    shown = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    for step in (300, 600, 900):
        await_next_second()
        result = replace(RESULT, step=step, wer=30 / step)
        tensorboard.write_dev_result(str(tmp_path), result, [sample_of()], ENGLISH, checkpoint)
        shown.Reload()
    for tag in ("wer", "heat_map/84-1-0", "samples", "conv_0/kernel"):
        assert [event.step for event in shown.Tensors(tag)] == [300, 600, 900]
    rates = [float(tf.make_ndarray(event.tensor_proto)) for event in shown.Tensors("wer")]
    assert rates == pytest.approx([0.1, 0.05, 0.3 / 9])


@pytest.mark.estimator
def test_a_result_is_written_in_the_middle_of_an_estimator_s_training(
    tmp_path: Path, checkpoint: str
) -> None:
    class Writing(tf.estimator.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            assert not tf.executing_eagerly()
            operations = len(run_context.session.graph.get_operations())
            tensorboard.write_dev_result(
                str(tmp_path / "dev"), RESULT, [sample_of()], ENGLISH, checkpoint
            )
            assert len(run_context.session.graph.get_operations()) == operations

    def model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
        weight = tf.compat.v1.get_variable("weight", initializer=[1.0])
        loss = tf.reduce_sum(weight * features)
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
        step = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
        return tf.compat.v1.estimator.tpu.TPUEstimatorSpec(mode, loss=loss, train_op=step)

    estimator = tf.compat.v1.estimator.tpu.TPUEstimator(
        model_fn,
        config=tf.compat.v1.estimator.tpu.RunConfig(model_dir=str(tmp_path)),
        use_tpu=False,
        train_batch_size=1,
    )
    estimator.train(
        lambda params: tf.data.Dataset.from_tensors([1.0]).repeat(), max_steps=1, hooks=[Writing()]
    )
    assert {"wer", "samples", "heat_map/84-1-0", "conv_0/kernel"} <= set(
        values_in(tmp_path / "dev")
    )


def test_the_table_has_a_row_for_each_sample(tmp_path: Path, checkpoint: str) -> None:
    samples = [sample_of("b"), replace(sample_of("a"), greedy="", beam="")]
    tensorboard.write_dev_result(str(tmp_path), RESULT, samples, ENGLISH, checkpoint)
    text = values_in(tmp_path)["samples"][1].item()
    shown = markdown_to_safe_html(text)
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", shown)
    assert cells == [
        *("utterance", "reference", "greedy", "beam"),
        *("b", "a cat", "a cut", "a cat"),
        *("a", "a cat", "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a|b \\| c", None),
        ("<b>x</b> & &amp;", None),
        ("*a* __b__ `c` [d](e) ![f](g) ~~h~~", None),
        ("# a", None),
        ("1. it's well-known: yes, no", None),
        ("- - -", None),
        ("---", None),
        ("http://a.b/c_d_e", None),
        ("שלום عالم 字", None),
        ("two\nlines", "two lines"),
        ("one\u2028line\u0085with\u00a0spaces", None),
        ('$x$ {y} "q"', None),
    ],
)
def test_a_text_is_shown_as_it_is(text: str, seen: str | None) -> None:
    sample = replace(sample_of(text), reference=text, greedy=text, beam=text)
    shown = markdown_to_safe_html(tensorboard.table([sample, sample]))
    cells = re.findall(r"<td>([^<]*)</td>", shown)
    assert [html.unescape(cell) for cell in cells] == [seen or text] * 8


def test_a_checkpoint_that_is_not_there_is_named_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(tf.errors.NotFoundError, match=r"model\.ckpt-7"):
        tensorboard.write_dev_result(
            str(tmp_path / "dev"), RESULT, [], ENGLISH, str(tmp_path / "model.ckpt-7")
        )
    assert not (tmp_path / "dev").exists()


@pytest.mark.slow
def test_a_result_is_written_into_a_bucket(
    emulator: Emulator, bucket: str, checkpoint: str
) -> None:
    code = f"""
import tensorflow as tf
from test_tensorboard import RESULT, sample_of
from speech.training.tensorboard import write_dev_result
from utils import ENGLISH
write_dev_result("{bucket}/model/dev", RESULT, [sample_of()], ENGLISH, "{checkpoint}")
(path,) = tf.io.gfile.glob("{bucket}/model/dev/events.*")
for event in tf.compat.v1.train.summary_iterator(path):
    print(*(value.tag for value in event.summary.value))
"""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/support"), os.path.dirname(__file__)])
    environment = environment_of_door({**emulator.environment, "PYTHONPATH": paths})
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert {"wer", "samples", "heat_map/84-1-0", "conv_0/kernel"} <= set(outcome.stdout.split())


@pytest.mark.parametrize("free_bytes", [0, 5000])
def test_a_folder_that_can_not_be_written_is_an_error(
    free_bytes: int, tmp_path: Path, checkpoint: str
) -> None:
    with full_disk(free_bytes), pytest.raises(tf.errors.OpError):
        tensorboard.write_dev_result(str(tmp_path), RESULT, [sample_of()], ENGLISH, checkpoint)
