"""The training loop: from the latest checkpoint to the last step, whatever engine takes the steps.

Train to the next evaluation, evaluate on the development set, decide how to continue, and repeat.
Every decision follows from the checkpoint and the history beside it, so a loop that was stopped at
any moment and started again does what one does that was never stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass

from absl import logging

from speech.engines import checkpoints
from speech.engines.engine import Callbacks, Engine, StepState
from speech.engines.errors import explain_errors
from speech.engines.stopping import Stopping
from speech.networks.config import save_config
from speech.system import storage
from speech.system.lock import exclusive
from speech.training import curves, tensorboard
from speech.training.bad_steps import BadSteps
from speech.training.dev_evaluation import DevEvaluation, DevEvaluator, format_result
from speech.training.early_stopping import Decision, decide
from speech.training.history import History
from speech.training.progress import ProgressLog, Recorder
from speech.training.task import Task, log_task


def run(task: Task, engine: Engine, stopping: Stopping) -> None:
    """Trains a network, until its last step, early stopping or a signal.

    Raises:
        UserError: another process trains this model, a file can't be read or written, or too many
            steps had to be skipped.
    """
    if not engine.is_leader:
        follow(task, engine, stopping)
        return
    model_dir = task.model_dir
    checkpoints.check_writable(model_dir)
    with exclusive(storage.join(model_dir, ".lock"), "this model", "--model_dir") as lock:
        save_config(model_dir, task.config)
        log_task(task)
        evaluator = None
        if task.data.dev:
            best_by = task.settings.loop.best_by
            evaluator = DevEvaluator(task.data.dev, task.dev_batching, task.config, best_by)
        history = History(model_dir, checkpoints.latest_step(model_dir))
        with explain_errors(model_dir):
            TrainingLoop(task, engine, evaluator, history, stopping, lock.check).run()
    logging.info("The model is in %s", model_dir)


def follow(task: Task, engine: Engine, stopping: Stopping) -> None:
    """Trains what the leading process commands, until it ends the training."""
    bad_steps = BadSteps(
        checkpoints.latest_step(task.model_dir),
        task.settings.loop.max_bad_steps,
        task.utterances_of,
    )
    with explain_errors(task.model_dir):
        engine.follow(task.batches_from, Callbacks(stopping, on_step=bad_steps.check))
    logging.info("Worker 0 has ended the training.")


@dataclass(frozen=True)
class TrainingLoop:
    """The loop, in the process that leads."""

    task: Task
    engine: Engine
    evaluator: DevEvaluator | None  # None: there is no development set
    history: History
    stopping: Stopping
    check_lock: Callable[[], None]  # raises an error if another process has taken the model over

    def run(self) -> None:
        training, settings = self.task.config.training, self.task.settings.loop
        last_step = training.train_steps
        step = checkpoints.latest_step(self.task.model_dir)
        if 0 < step < last_step:
            logging.info("Continues from the checkpoint of step %d, to step %d.", step, last_step)
        while not self.stopping.requested:
            self.check_lock()
            if self.is_evaluation_due(step):
                self.evaluate(step)
                continue
            decision = decide(
                self.history.dev_results, settings.early_stopping, training.steps_per_epoch
            )
            if decision.stop or step >= last_step:
                self.log_end(step, decision)
                break
            step = self.train(step, decision.learning_rate_scale)
        self.draw_curves()
        if settings.average_weights and not self.stopping.requested:
            self.average(step)
        if self.stopping.requested:
            logging.info("Stopped at step %d. The same command continues from here.", step)

    # --- Training

    @property
    def interval(self) -> int:
        """Steps between two evaluations on the development set."""
        return self.task.settings.loop.eval_steps or self.task.config.training.steps_per_epoch

    def train(self, step: int, learning_rate_scale: float) -> int:
        """Trains from `step` to the next evaluation; returns the step of the last checkpoint."""
        training = self.task.config.training
        recorder = Recorder(training, learning_rate_scale, self.history)
        progress = ProgressLog(training, self.task.data.train.index.audio_seconds)
        most = self.task.settings.loop.max_bad_steps
        bad_steps = BadSteps(step, most, self.task.utterances_of)

        def on_step(state: StepState) -> None:
            if point := recorder.record(state):
                progress.add(point)
            bad_steps.check(state)

        def before_save(state: StepState) -> None:
            self.check_lock()
            recorder.record(state)  # on_step may come only after this
            self.history.save()

        reached = self.engine.train(
            self.task.batches_from(step),
            min(training.train_steps, (step // self.interval + 1) * self.interval),
            learning_rate_scale,
            Callbacks(self.stopping, on_step, before_save),
        )
        progress.end()
        return reached

    # --- Evaluation on the development set

    def is_evaluation_due(self, step: int) -> bool:
        is_end = step % self.interval == 0 or step == self.task.config.training.train_steps
        return bool(self.evaluator and step and is_end and not self.history.is_evaluated(step))

    def evaluate(self, step: int) -> None:
        """Evaluates the latest checkpoint, and keeps a copy of it if it is the best so far."""
        model_dir = self.task.model_dir
        checkpoint = checkpoints.find_checkpoint(model_dir, checkpoints.LATEST)
        evaluation = self.measure(checkpoint, step)
        if not evaluation:
            return
        result = evaluation.result
        if result.best:
            checkpoints.replace_copy(checkpoint, storage.join(model_dir, checkpoints.BEST))
        folder, alphabet = storage.join(model_dir, "dev"), self.task.config.alphabet
        tensorboard.write_dev_result(folder, result, evaluation.samples, alphabet, checkpoint)
        self.history.add(result)
        self.history.save()
        self.draw_curves()

    def measure(self, checkpoint: str, step: int) -> DevEvaluation | None:
        """Evaluates a checkpoint and logs the result; None if stopped or without an evaluator."""
        if not self.evaluator:
            return None
        evaluation = self.evaluator.evaluate(
            self.engine, checkpoint, step, self.history.best, lambda: self.stopping.requested
        )
        if evaluation:
            steps_per_epoch = self.task.config.training.steps_per_epoch
            logging.info("%s", format_result(evaluation.result, steps_per_epoch))
        return evaluation

    def draw_curves(self) -> None:
        picture = curves.draw(
            self.history.training,
            self.history.dev_results,
            self.task.config.training.steps_per_epoch,
        )
        storage.write_bytes(storage.join(self.task.model_dir, curves.CURVES_FILE), picture)

    # --- The end

    def log_end(self, step: int, decision: Decision) -> None:
        settings = self.task.settings.loop.early_stopping
        if decision.stop:
            logging.info(
                "Stops early at step %d: no better loss on the development set for %g epochs.",
                step,
                settings.es_epochs,
            )
        else:
            logging.info("Trained for %d of %d steps.", step, self.task.config.training.train_steps)

    def average(self, step: int) -> None:
        """Averages the last checkpoints, and evaluates the average on the development set."""
        model_dir = self.task.model_dir
        weights = self.task.settings.loop.average_weights
        weights = weights[: len(checkpoints.trained_checkpoints(model_dir))]
        if not sum(weights):
            logging.warning("There are no checkpoints to average yet.")
            return
        checkpoint = checkpoints.average(model_dir, weights)
        logging.info("The average of the last %d checkpoints: %s", len(weights), checkpoint)
        self.measure(checkpoint, step)
