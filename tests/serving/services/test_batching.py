"""A model's thread: batches, calls and errors."""

import sys
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import write_model

from speech.export import loading
from speech.export.acoustic_model import AcousticModel
from speech.serving.errors import RequestError
from speech.serving.services.batching import BatchedModel, Batcher

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AcousticModel:
    folder = tmp_path_factory.mktemp("batching") / "model"
    write_model(folder, "conv_gru")
    return loading.load(str(folder))


class Gate:
    """A model that blocks until it is opened, so that utterances wait after a first batch."""

    def __init__(self, model: AcousticModel) -> None:
        self.description = model.description
        self._model = model
        self.entered, self.opened = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.opened.wait(30)
        if any(each.shape[1] != 8 for each in batch):
            raise ValueError("no features of this model")
        return self._model.of_batch(batch)

    def of_features(self, features: Floats) -> Floats:
        return self.of_batch([features])[0]

    of_samples = of_features


def utterances(lengths: Sequence[int]) -> list[Floats]:
    rng = np.random.default_rng(3)
    return [rng.normal(size=(length, 8)).astype(np.float32) for length in lengths]


@pytest.fixture
def gate(model: AcousticModel) -> Gate:
    return Gate(model)


@pytest.fixture
def sizes() -> list[int]:
    return []


@pytest.fixture
def batcher(gate: Gate, sizes: list[int]) -> Iterator[Batcher]:
    started = Batcher(gate, 4, sizes.append)  # type: ignore[arg-type]  # has no streams
    yield started
    gate.opened.set()
    started.close()


def test_utterances_of_similar_length_are_batched_with_the_same_output(
    batcher: Batcher, gate: Gate, model: AcousticModel, sizes: list[int]
) -> None:
    first = batcher.submit(utterances([10])[0])
    assert gate.entered.wait(30)
    lengths = [100, 30, 90, 31, 80, 70, 60, 29]
    batch = utterances(lengths)
    outcomes = [batcher.submit(each) for each in batch]
    gate.opened.set()
    for each, outcome in zip(batch, outcomes, strict=True):
        alone = model.of_features(each)
        np.testing.assert_allclose(outcome.result(30), alone, rtol=0, atol=2e-5)
    assert first.result().shape == model.of_features(utterances([10])[0]).shape
    # The one that has waited longest and those of similar length, none shorter than half of it.
    assert sizes == [1, 4, 3, 1]
    assert len(gate.threads) == 1


def test_cancelled_utterance_is_not_computed(
    batcher: Batcher, gate: Gate, sizes: list[int]
) -> None:
    batcher.submit(utterances([10])[0])
    assert gate.entered.wait(30)
    gone, here = (batcher.submit(each) for each in utterances([20, 20]))
    assert gone.cancel()
    gate.opened.set()
    assert len(here.result(30)) == 10
    assert sizes == [1, 1]


def test_error_is_raised_for_the_batch_and_the_thread_continues(
    batcher: Batcher, gate: Gate
) -> None:
    gate.opened.set()
    wrong = batcher.submit(np.zeros((5, 3), np.float32))  # three bins instead of eight
    assert wrong.exception(30) is not None
    assert len(batcher.submit(utterances([20])[0]).result(30)) == 10
    assert batcher.alive


def test_calls_have_priority_over_utterances(batcher: Batcher, gate: Gate) -> None:
    batcher.submit(utterances([10])[0])
    assert gate.entered.wait(30)
    waiting = batcher.submit(utterances([20])[0])
    call = batcher.call(lambda: (waiting.done(), threading.get_ident()))
    gate.opened.set()
    assert call.result(30) == (False, gate.threads.pop())


def test_work_after_the_end_is_refused(model: AcousticModel) -> None:
    ended = Batcher(model, 4)
    ended.close()
    assert not ended.alive
    for outcome in (ended.submit(utterances([10])[0]), ended.call(lambda: 1)):
        with pytest.raises(RequestError, match="The model has stopped"):
            outcome.result(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_thread_that_dies_leaves_nobody_waiting(batcher: Batcher, gate: Gate) -> None:
    first = batcher.submit(utterances([10])[0])
    assert gate.entered.wait(30)
    dying, waiting = batcher.call(sys.exit), batcher.submit(utterances([20])[0])
    gate.opened.set()
    assert len(first.result(30)) == 5
    assert isinstance(dying.exception(30), SystemExit)
    assert isinstance(waiting.exception(30), RequestError)
    assert not batcher.alive
    assert isinstance(batcher.submit(utterances([20])[0]).exception(30), RequestError)


def test_error_of_the_batch_counter_is_raised(model: AcousticModel) -> None:
    def fail(size: int) -> None:
        raise ZeroDivisionError

    batcher = Batcher(model, 4, fail)
    assert isinstance(batcher.submit(utterances([20])[0]).exception(30), ZeroDivisionError)
    assert batcher.alive
    batcher.close()


def test_batched_model_has_the_models_output(model: AcousticModel) -> None:
    batcher = Batcher(model, 4)
    own = BatchedModel(batcher)
    samples = np.arange(4000, dtype=np.int16)
    np.testing.assert_allclose(own.of_samples(samples), model.of_samples(samples), atol=2e-5)
    batch = utterances([20, 30])
    for one, other in zip(own.of_batch(batch), model.of_batch(batch), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
    assert own.description is model.description
    batcher.close()
