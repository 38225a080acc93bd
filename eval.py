"""Checkpoint + shards -> word error rate.

  python eval.py
  python eval.py --model_dir=model --test_data=data/test.tfrecords.* --report_dir=report
  python eval.py --scorer=lm/kenlm.scorer --logits_cache=logits --compare=report/summary.json

The model directory carries front end, alphabet and network; nothing of them is asked for again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from absl import flags, logging

import constants
import model
from speech.corpora import recordings
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.decoding.scorer import Scorer
from speech.engines import checkpoints, devices, errors
from speech.evaluation import comparison, logits_cache, recogniser, report_page, sweeps
from speech.evaluation import results as report
from speech.evaluation.recognition import Recognition
from speech.flags import decoder as decoder_flags
from speech.flags.checkpoint import checkpoint_from_flags, define_checkpoint_flags
from speech.flags.tpu import define_tpu_flags, tpu_from_flags
from speech.networks.config import ModelConfig, read_config
from speech.shards.shard_set import ShardSet
from speech.system import command_line, storage
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "The model that training.py made.")
    command_line.define_paths(
        "test_data",
        constants.TEST_DATA,
        "Test shards, a glob or gs:// glob; or several, by commas.",
    )
    define_checkpoint_flags()
    command_line.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    flags.DEFINE_string(
        "report_dir",
        constants.REPORT_DIR,
        "Where report.html, summary.json and utterances.csv go, or a folder of them for each of "
        "several sets; empty for none.",
    )
    command_line.define_paths(
        "audio", [], "Folders of the recordings, which the report then plays; by commas."
    )
    flags.DEFINE_string(
        "compare", None, "summary.json of another evaluation of the same set, to compare with."
    )
    flags.DEFINE_bool(
        "sweep", False, "Report the WER over beam widths, and with a scorer over alpha and beta."
    )
    flags.DEFINE_string(
        "logits_cache", "", "A folder to keep the network's output in; empty for none."
    )
    decoder_flags.define_decoder_flags()
    define_tpu_flags()
    command_line.define_logging_flag()


@dataclass(frozen=True)
class Decoding:
    """How log-probabilities become text."""

    settings: BeamSettings
    scorer: Scorer | None
    decoder: BeamSearchDecoder


@dataclass(frozen=True)
class TestSet:
    """Shards to recognise, and where what is found goes."""

    name: str
    shards: ShardSet
    report_dir: str  # empty: nowhere


def find_test_sets(config: ModelConfig) -> list[TestSet]:
    """The sets of --test_data, in its order."""
    if not FLAGS.test_data:
        raise UserError("--test_data is empty: name the shards to evaluate with, a glob.")
    sets: list[TestSet] = []
    for pattern in FLAGS.test_data:
        shards = recogniser.find_set(pattern, config, FLAGS.model_dir)
        name = shards.name
        if name in (each.name for each in sets):
            raise UserError(f"--test_data has two sets {name}: evaluate them one after the other.")
        folder = FLAGS.report_dir
        if folder and len(FLAGS.test_data) > 1:
            folder = storage.join(folder, name)
        sets.append(TestSet(name, shards, folder))
    return sets


def compared(
    recognitions: Sequence[Recognition], decoder: BeamSearchDecoder
) -> tuple[list[report.Result], list[report.Result]]:
    """What beam search makes of a set, and what the best path does."""
    results, greedy = [], []
    hypotheses = decoder.decode_batch(each.log_probs for each in recognitions)
    for each, hypothesis in zip(recognitions, hypotheses, strict=True):
        known = each.utterance_id, each.reference
        best_path = greedy_decode(each.log_probs, decoder.alphabet)
        results.append(report.compare(*known, hypothesis, each.loss))
        greedy.append(report.compare(*known, best_path, each.loss))
    return results, greedy


def sweep(
    recognitions: Sequence[Recognition], decoding: Decoding
) -> tuple[list[report_page.BeamPoint], list[report_page.WeightPoint]]:
    """The WER over beam widths, and with a scorer over its weights."""
    alphabet, settings, scorer = decoding.decoder.alphabet, decoding.settings, decoding.scorer
    total = len({*sweeps.BEAM_WIDTHS, settings.beam_width})
    total += len(sweeps.ALPHAS) * len(sweeps.BETAS) if scorer else 0
    with command_line.progress_bar(total, " settings") as bar:
        beams = sweeps.beam_points(recognitions, alphabet, settings, scorer, bar.update)
        if not scorer:
            return beams, []
        return beams, sweeps.weight_points(recognitions, alphabet, settings, scorer, bar.update)


def evaluate(
    test_set: TestSet,
    recognise_set: Callable[[ShardSet], Iterator[list[Recognition]]],
    checkpoint: str,
    decoding: Decoding,
    audio: recordings.Audio | None,
    others: list[report.Result] | None,
) -> report.Summary:
    """Recognises a set, prints its rates and writes its report."""
    shards = test_set.shards
    started = time.monotonic()
    recognitions = logits_cache.read_or_make(
        FLAGS.logits_cache, checkpoint, shards, lambda: recognise_set(shards)
    )
    results, greedy = compared(recognitions, decoding.decoder)
    summary = report.summarise(
        results,
        greedy,
        time.monotonic() - started,
        shards.index.audio_seconds,
        checkpoints.steps_of(checkpoint),
        decoder_flags.described(decoding.settings, decoding.scorer),
    )
    against = None
    if others is not None:
        against = comparison.compare_runs(results, others, FLAGS.compare)
    beams, weights = sweep(recognitions, decoding) if FLAGS.sweep else ([], [])
    if test_set.report_dir:
        report.write(test_set.report_dir, summary, results)
        print(f"Every utterance: {test_set.report_dir}/{report.UTTERANCES_FILE}")
        chosen = None
        if decoding.scorer:
            chosen = decoder_flags.weights(decoding.settings, decoding.scorer)
        page = report_page.Page(
            test_set.name, summary, results, audio, beams, weights, chosen, against
        )
        print(f"The report: {report_page.write(test_set.report_dir, page)}")
    print(f"Greedily: WER {summary.greedy_wer:.2%} CER {summary.greedy_cer:.2%}")
    if against:
        print(against.line())
    print(summary.interval_line())
    print(summary.line())
    return summary


def main() -> None:
    errors.quieten(FLAGS.logging)
    tpu = tpu_from_flags(FLAGS)
    devices.check_batch_sizes(tpu, eval_batch_size=FLAGS.eval_batch_size)
    for pattern in FLAGS.test_data:
        devices.check_paths(tpu, test_data=pattern, model_dir=FLAGS.model_dir)
    if FLAGS.compare and len(FLAGS.test_data) > 1:
        raise UserError("--compare compares one set: give --test_data one, the other's.")
    settings = decoder_flags.asked_settings(FLAGS)
    config = read_config(FLAGS.model_dir)
    scorer = decoder_flags.asked_scorer(FLAGS.scorer, config.alphabet, FLAGS.model_dir)
    decoding = Decoding(settings, scorer, BeamSearchDecoder(config.alphabet, settings, scorer))
    test_sets = find_test_sets(config)
    audio = recordings.find_audio(FLAGS.audio) if FLAGS.audio else None
    others = report.read_results(FLAGS.compare) if FLAGS.compare else None
    with errors.explain_errors(FLAGS.model_dir):
        checkpoint = checkpoint_from_flags(FLAGS).find(FLAGS.model_dir)
        network = model.model_fn_builder(config, FLAGS.model_dir)
        size = FLAGS.eval_batch_size
        recognise_set = recogniser.on_device(
            network, config, checkpoint, FLAGS.model_dir, size, tpu
        ).recognise
        logging.info("%s", checkpoint)
        for test_set in test_sets:
            if test_set.report_dir:
                storage.make_folder(test_set.report_dir)  # told of before minutes of recognition
        summaries = []
        for test_set in test_sets:
            if len(test_sets) > 1:
                print(f"{test_set.name}:")
            summaries.append(evaluate(test_set, recognise_set, checkpoint, decoding, audio, others))
    if FLAGS.report_dir and len(test_sets) > 1:
        links = [
            (each.name, f"{each.name}/{report_page.REPORT_FILE}", summary)
            for each, summary in zip(test_sets, summaries, strict=True)
        ]
        print(f"All sets: {report_page.write_index(FLAGS.report_dir, links)}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
