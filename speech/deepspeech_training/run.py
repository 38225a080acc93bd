"""DeepSpeech.py's run: prepares, trains, tests, exports and transcribes, each by its door.

Every door is a process of its own: flags and TensorFlow's state are global. What doors print goes
to standard error; standard output has DeepSpeech's lines.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

import constants
from speech.audio.reader import audio_length
from speech.decoding.scorer import read_matching_scorer
from speech.deepspeech_training import report
from speech.deepspeech_training.door_process import run_door
from speech.deepspeech_training.epoch_lines import EpochLines
from speech.deepspeech_training.model_folder import ModelFolder
from speech.deepspeech_training.settings import RunSettings
from speech.deepspeech_training.shard_cache import CachedSet, find_set
from speech.input_pipeline.batching import Batching, steps_per_epoch
from speech.shards.shard_set import find_shards
from speech.system import storage
from speech.text import alphabets
from utils import DEEPSPEECH_ENGLISH, UserError

# The step at which a training began that hasn't ended, in the model directory.
UNFINISHED_FILE = "unfinished_run.json"


def run(settings: RunSettings) -> None:
    """Runs what the settings ask for.

    Raises:
        UserError: the settings contradict what the folders have, or a door fails.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    trains = bool(settings.files["train"]) and settings.epochs > 0
    _check_last_files(settings, trains)
    source = _source(settings, trains)
    if not trains and not source.has_model:
        raise UserError(
            f"There is no model in {source.path}: give --train_files to train one, or the folder "
            "of one with --checkpoint_dir."
        )
    # Of all sets, so that what is wrong with one is known before hours of training.
    wanted = [(name, settings.files[name]) for name in ("train", "dev") if trains]
    sets = {name: _find_set(settings, name, files) for name, files in wanted if files}
    tests = [_find_set(settings, "test", (path,)) for path in settings.files["test"]]
    if trains:
        storage.make_folder(settings.folders.save)
    for each in (*sets.values(), *tests):
        each.prepare(settings.logging)
    if trains:
        _train(settings, source, sets["train"], sets.get("dev"))
        source = ModelFolder(settings.folders.save)
    if tests:
        _test(settings, source, tests)
    if settings.export_dir:
        _export(settings, source)
    if settings.one_shot_infer:
        arguments = (f"--model={source.path}", f"--audio={settings.one_shot_infer}")
        more = settings.doors.transcription
        run_door("transcribe", (*arguments, *more, "--logging=warning"), sys.stdout)
    if trains:  # only now: else the same words would train again instead of testing and exporting
        storage.remove(storage.join(settings.folders.save, UNFINISHED_FILE))


def _check_last_files(settings: RunSettings, trains: bool) -> None:
    """Raises UserError if a file that comes last can't be used, before hours of training."""
    if settings.scorer and (trains or settings.files["test"]):
        alphabet = settings.doors.alphabet
        known = alphabets.read_alphabet(alphabet) if alphabet else DEEPSPEECH_ENGLISH
        read_matching_scorer(settings.scorer, known, settings.folders.save)
    if settings.one_shot_infer:
        audio_length(settings.one_shot_infer, constants.SAMPLE_RATE)
    for path in (settings.report.output_file, _exported_file(settings)):
        if path:
            storage.make_folder(os.path.dirname(path))
            storage.refuse_device(path)
            if os.path.isdir(path):
                raise UserError(f"{path} is a folder, and a file is written there: name another.")


def _exported_file(settings: RunSettings) -> str:
    """Returns the path that DeepSpeech.py's export has; empty: there is no export."""
    folder = settings.export_dir
    return folder and storage.join(folder, f"{settings.export_file_name}.tflite")


def _source(settings: RunSettings, trains: bool) -> ModelFolder:
    """Returns the model that is loaded; a checkpoint of DeepSpeech is imported first.

    Raises:
        UserError: the model would be replaced, or isn't one that these settings continue.
    """
    load, save = ModelFolder(settings.folders.load), ModelFolder(settings.folders.save)
    if trains and save.is_deepspeechs:
        raise UserError(
            f"{save.path} has a checkpoint of DeepSpeech, which training would replace: give it as "
            "--load_checkpoint_dir, and another folder as --save_checkpoint_dir."
        )
    if load.is_deepspeechs:
        load = _import(settings, load)
    if not trains:
        return load
    begins = not storage.exists(storage.join(save.path, UNFINISHED_FILE))
    elsewhere = load.path != save.path
    for broken, message in (
        (
            settings.drop_layers and not elsewhere,
            f"--drop_source_layers={settings.drop_layers} changes a model: give its folder as "
            "--load_checkpoint_dir, and another as --save_checkpoint_dir.",
        ),
        (
            begins and save.has_model and (elsewhere or settings.load_train in ("init", "best")),
            f"--save_checkpoint_dir={save.path} has a trained model: name a new folder, or give "
            "it alone, as --checkpoint_dir, to train it for more epochs.",
        ),
        (
            settings.load_train in ("best", "last") and not load.has_model and begins,
            f"--load_train={settings.load_train}: there is no model in {load.path}. Leave it out "
            "to train from the beginning.",
        ),
    ):
        if broken:
            raise UserError(message)
    for folder in (load, save):
        folder.check_network(settings.n_hidden, settings.layer_norm)
    return load


def _import(settings: RunSettings, folder: ModelFolder) -> ModelFolder:
    """Imports a checkpoint of DeepSpeech, unless that was done before."""
    # Without its last layer it may be of another alphabet than the one that is given.
    alphabet = "" if settings.drop_layers else settings.doors.alphabet
    letters = storage.read_bytes(alphabet) if os.path.isfile(alphabet) else alphabet.encode()
    known = hashlib.sha256(f"{folder.path}{folder.identity}".encode() + letters).hexdigest()
    imported = ModelFolder(storage.join(settings.folders.shards, f"imported-{known[:16]}"))
    if not imported.has_model:
        named = (f"--alphabet={alphabet}",) if alphabet else ()
        more = (f"--model_dir={imported.path}", f"--logging={settings.logging}")
        try:
            run_door("import_deepspeech", (folder.path, *named, *more))
        except UserError as error:
            raise UserError(
                f"{error} An alphabet is given as --alphabet_config_path, or if "
                f"--drop_source_layers leaves out the last layer, as alphabet.txt in {folder.path}."
            ) from None
    print(f"I Imported the checkpoint of DeepSpeech in {folder.path} to {imported.path}")
    return imported


def _find_set(settings: RunSettings, name: str, files: tuple[str, ...]) -> CachedSet:
    """Reads the CSV files of a set."""
    doors, limit = settings.doors, settings.limits[name]
    arguments = [*doors.preparation, *(doors.copies if name == "train" else ())]
    if limit:
        arguments.append(f"--limit_{name}={limit}")
    return find_set(name, files, arguments, doors.alphabet, settings.folders.shards)


def _train(
    settings: RunSettings, source: ModelFolder, train: CachedSet, dev: CachedSet | None
) -> None:
    """Trains for the run's epochs, or for what is left of them in a run that was stopped."""
    save = ModelFolder(settings.folders.save)
    batching = Batching(settings.train_batch_size, static=False)
    per_epoch = steps_per_epoch(find_shards(train.pattern).index, batching)
    unfinished = storage.join(save.path, UNFINISHED_FILE)
    if storage.exists(unfinished):
        first_step = json.loads(storage.read_text(unfinished))["first_step"]
    else:
        first_step = save.step
        storage.write_text(unfinished, json.dumps({"first_step": first_step}) + "\n")
    first_epoch = -(-first_step // per_epoch)  # of epochs of this size, whatever they were before
    last_step = (first_epoch + settings.epochs) * per_epoch
    start = () if save.has_model else _start(settings, source)
    dev_data, dev_files = (dev.pattern, ",".join(dev.files)) if dev else ("", "")
    lines = EpochLines(
        save.path, first_epoch, per_epoch, save.step, dev_files, settings.show_progress
    )
    print("I STARTING Optimization", flush=True)
    began = time.monotonic()
    run_door(
        "training",
        (
            *("--recipe=deepspeech", f"--train_data={train.pattern}", f"--dev_data={dev_data}"),
            *(f"--model_dir={save.path}", f"--train_steps={last_step}", "--best_by=loss"),
            *(*settings.doors.training, *start, f"--logging={settings.logging}"),
        ),
        watch=lines.report,
    )
    if save.step < last_step:
        if not settings.early_stop:
            raise UserError(f"Training ended at step {save.step} of {last_step}: run it again.")
        waited = settings.es_epochs
        print(f"I Early stop triggered as the loss did not improve the last {waited} epochs")
    print(f"I FINISHED optimization in {timedelta(seconds=time.monotonic() - began)}", flush=True)


def _start(settings: RunSettings, source: ModelFolder) -> tuple[str, ...]:
    """Returns the arguments of a new model's start."""
    if not source.has_model or settings.load_train == "init":
        print("I Initializing all variables.")
        return ()
    path = source.latest if settings.load_train == "last" else source.path
    print(f"I Loading variables from checkpoint: {path}")
    return (f"--init_checkpoint={path}", f"--drop_layers={settings.drop_layers}")


def _checkpoint(settings: RunSettings) -> tuple[str, ...]:
    """Returns the arguments that choose the checkpoint to test and export."""
    chosen = {"best": "best", "last": "latest"}.get(settings.load_evaluate)
    return (f"--checkpoint={chosen}",) if chosen else ()


def _test(settings: RunSettings, source: ModelFolder, tests: Sequence[CachedSet]) -> None:
    """Tests on one CSV file after another."""
    samples = []
    for each in tests:
        print(f"Testing model on {each.files[0]}", flush=True)
        folder = storage.join(each.folder, "report")
        chosen = (f"--model_dir={source.path}", *_checkpoint(settings))
        data = (f"--test_data={each.pattern}", f"--report_dir={folder}")
        more = (*settings.doors.evaluation, f"--logging={settings.logging}")
        run_door("eval", (*chosen, *data, *more))
        found = report.read_samples(folder, each.recordings, settings.report.by_characters)
        report.print_report(each.files[0], folder, found, settings.report.samples)
        samples += found
    if settings.report.output_file:
        report.write_json(settings.report.output_file, samples)


def _export(settings: RunSettings, source: ModelFolder) -> None:
    """Exports the model, and gives its file the name that it has there."""
    folder = settings.export_dir
    print("I Exporting the model...", flush=True)
    chosen = (f"--model_dir={source.path}", *_checkpoint(settings), f"--export_dir={folder}")
    run_door("export", (*chosen, *settings.doors.export, f"--logging={settings.logging}"))
    name = "model-int8.tflite" if "--formats=tflite_int8" in settings.doors.export else ""
    written = storage.join(folder, name or "model.tflite")
    named = _exported_file(settings)
    storage.write_bytes(named, storage.read_bytes(written))
    print(f"I Models exported at {folder}: {named}", flush=True)
