"""Preparation by Apache Beam: the same bytes, the same messages, and no shard written twice."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from doors import ROOT, assert_error, run_door
from emulator import Emulator
from small_sets import SETTINGS, contents

from speech.augmentation.waveform import copies_of
from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance, with_copies
from speech.features.front_end import FrontEnd
from speech.preparation import beam, write_shards
from speech.preparation.beam import Runner
from speech.preparation.resume import corpus_digest
from speech.preparation.utterance import EMPTY, PreparedUtterance, prepare_utterance
from speech.shards.index import Index, ShardSettings, read_index
from speech.shards.paths import lock_path, run_folder
from speech.system import storage
from speech.system.lock import exclusive
from utils import UserError

pytest.importorskip("apache_beam")

WriteSplit = Callable[[Path, dict[str, str]], None]

DIRECT = Runner("DirectRunner", [])
SHARDS = ["t.00000000", "t.00000003", "t.00000006"]
BAD = 4  # position of the utterance that can't be used


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Path:
    """A split of eight utterances, one of them with an unknown character."""
    folder = tmp_path_factory.mktemp("speech")
    write_split(folder, {f"1-1-{i:04d}": "NAÏVE" if i == BAD else "IT'S" for i in range(8)})
    return folder


@pytest.fixture(scope="module")
def corpus(speech: Path) -> list[Utterance]:
    return find_utterances([str(speech)])


@pytest.fixture(scope="module")
def on_one_machine(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[Utterance]
) -> dict[str, bytes]:
    """The files that `prepare.prepare` writes."""
    folder = tmp_path_factory.mktemp("local")
    write_shards.prepare(corpus, str(folder / "t"), SETTINGS, 0, workers=1, strict=False)
    return contents(folder)


def run(
    utterances: list[Utterance],
    folder: Path | str,
    settings: ShardSettings = SETTINGS,
    start: int = 0,
    runner: Runner = DIRECT,
    strict: bool = False,
) -> Index:
    name = storage.join(str(folder), "t")
    return beam.prepare(utterances, name, settings, start, runner, strict)


def refusal(
    utterances: list[Utterance],
    folder: Path,
    settings: ShardSettings = SETTINGS,
    start: int = 0,
    runner: Runner = DIRECT,
    strict: bool = False,
) -> str:
    with pytest.raises(UserError) as error:
        run(utterances, folder, settings, start, runner, strict)
    return str(error.value)


def handed_out(utterances: list[Utterance], folder: Path) -> beam.Job:
    """A run that has got as far as handing out its work."""
    index = Index(SETTINGS, len(utterances), corpus_digest(utterances))
    job = beam.Job(str(folder / "t"), index, strict=False)
    for start in (0, 3, 6):
        work = json.dumps([vars(each) for each in utterances[start : start + 3]])
        path = f"{run_folder(job.tfrecords_file)}/{start:08d}.utterances.json"
        storage.write_text(path, work)
    return job


# --- The same bytes -------------------------------------------------------------------------------


def test_shards_and_index_are_those_of_one_machine(
    corpus: list[Utterance], tmp_path: Path, on_one_machine: dict[str, bytes]
) -> None:
    index = run(corpus, tmp_path)
    assert contents(tmp_path) == on_one_machine
    assert index == Index.from_json(on_one_machine["t.index.json"].decode(), "") and index.complete
    assert [skipped.position for skipped in index.skipped] == [BAD]


def test_unpadded_shards_are_those_of_one_machine(corpus: list[Utterance], tmp_path: Path) -> None:
    unpadded = replace(SETTINGS, padded=False)
    run(corpus, tmp_path / "beam", unpadded)
    write_shards.prepare(corpus, str(tmp_path / "local/t"), unpadded, 0, workers=1, strict=False)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


def test_augmented_shards_are_those_of_one_machine(corpus: list[Utterance], tmp_path: Path) -> None:
    copies = copies_of(["reverb[p=0.5]", "speed"], 2, random_seed=3)
    augmented, copied = replace(SETTINGS, copies=copies), with_copies(corpus, 2)
    assert run(copied, tmp_path / "beam", augmented).corpus_utterances == 24
    write_shards.prepare(copied, str(tmp_path / "local/t"), augmented, 0, workers=1, strict=False)


def test_receipts_contain_the_sums_of_features(corpus: list[Utterance], tmp_path: Path) -> None:
    over_corpus = replace(SETTINGS, front_end=FrontEnd(mel_filters=6, normalisation="corpus"))
    index = run(corpus, tmp_path / "beam", over_corpus)
    assert index.statistics is not None and len(index.statistics.mean) == 6
    write_shards.prepare(corpus, str(tmp_path / "local/t"), over_corpus, 0, workers=1, strict=False)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


@pytest.mark.parametrize("lost", [SHARDS[1:2], SHARDS])
def test_missing_shards_are_written_and_no_others(
    corpus: list[Utterance], tmp_path: Path, on_one_machine: dict[str, bytes], lost: list[str]
) -> None:
    for name, content in on_one_machine.items():
        if name not in lost:
            (tmp_path / name).write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("t.0*")}
    run(corpus, tmp_path)
    assert contents(tmp_path) == on_one_machine
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_local_and_the_beam_run_finish_each_others_sets(
    corpus: list[Utterance], tmp_path: Path, on_one_machine: dict[str, bytes]
) -> None:
    write_shards.prepare(corpus, str(tmp_path / "t"), SETTINGS, 6, workers=1, strict=False)
    assert [shard.start for shard in run(corpus, tmp_path, start=3).shards] == [3, 6]
    write_shards.prepare(corpus, str(tmp_path / "t"), SETTINGS, 0, workers=1, strict=False)
    assert contents(tmp_path) == on_one_machine


def test_a_finished_set_runs_no_pipeline(
    corpus: list[Utterance], tmp_path: Path, on_one_machine: dict[str, bytes]
) -> None:
    for name, content in on_one_machine.items():
        (tmp_path / name).write_bytes(content)
    with mock.patch.object(beam, "_run", side_effect=AssertionError):
        assert run(corpus, tmp_path).complete
    assert contents(tmp_path) == on_one_machine


def test_from_a_bucket_into_a_bucket(
    emulator: Emulator,
    bucket: str,
    speech: Path,
    on_one_machine: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    root = bucket.removeprefix(f"gs://{emulator.bucket}/")
    for path in speech.rglob("*.*"):
        emulator.put(f"{root}/speech/{path.relative_to(speech)}", path.read_bytes())
    run(find_utterances([f"{bucket}/speech"]), f"{bucket}/data")
    prefix = f"{root}/data/"
    written = emulator.objects(prefix)
    # Ids, transcripts and sizes are the same: so is the corpus, to the last digit of its digest.
    assert {name.removeprefix(prefix): written[name] for name in written} == on_one_machine


# --- Written twice at once ------------------------------------------------------------------------


def test_two_attempts_at_one_shard_do_not_disturb_each_other(
    corpus: list[Utterance], tmp_path: Path, on_one_machine: dict[str, bytes]
) -> None:
    job = handed_out(corpus, tmp_path)
    shard = tmp_path / SHARDS[0]
    seen: list[bytes] = []
    turns = threading.Barrier(2)

    def in_turns(utterance: Utterance, settings: ShardSettings) -> PreparedUtterance:
        with suppress(threading.BrokenBarrierError):  # the other one is through
            turns.wait(10)
        if shard.exists():
            seen.append(shard.read_bytes())
        return prepare_utterance(utterance, settings)

    def first() -> None:
        beam.write_partition(0, job)
        seen.append(shard.read_bytes())
        turns.abort()

    def late() -> None:
        turns.wait(10)  # it begins when the other one has opened its file
        beam.write_partition(0, job)

    with (
        mock.patch.object(beam, "prepare_utterance", in_turns),
        ThreadPoolExecutor(2) as attempts,
    ):
        for attempt in [attempts.submit(first), attempts.submit(late)]:
            attempt.result()
    assert len(seen) > 1 and set(seen) == {on_one_machine[SHARDS[0]]} == {shard.read_bytes()}
    left = sorted(path.name for path in Path(run_folder(job.tfrecords_file)).iterdir())
    assert "failure" not in left and not [name for name in left if "partial" in name]
    assert sorted(os.listdir(tmp_path)) == [".t.run", SHARDS[0]]


def test_an_attempt_that_outlives_its_run_leaves_no_failure(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    job = replace(handed_out(corpus, tmp_path), strict=True)

    def finished_meanwhile(*unused: object) -> PreparedUtterance:
        storage.remove_folder(run_folder(job.tfrecords_file))
        return PreparedUtterance(reason=EMPTY)

    with mock.patch.object(beam, "prepare_utterance", finished_meanwhile):
        beam.write_partition(0, job)
    assert not list(tmp_path.iterdir())


# --- Stopped, and run again -----------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["beam", "local"])
def test_shards_that_a_killed_run_finished_are_not_written_again(
    corpus: list[Utterance], tmp_path: Path, on_one_machine: dict[str, bytes], finish: str
) -> None:
    job = handed_out(corpus, tmp_path)
    beam.write_partition(3, job)
    beam.write_partition(6, job)
    (tmp_path / ".t.00000000.partial").write_bytes(b"half")
    (tmp_path / ".t.run/0123.partial").write_bytes(b"half")
    (tmp_path / "t.00000006").write_bytes(b"lost meanwhile")
    times = (tmp_path / "t.00000003").stat().st_mtime_ns
    if finish == "beam":
        run(corpus, tmp_path)
    else:
        write_shards.prepare(corpus, str(tmp_path / "t"), SETTINGS, 0, workers=1, strict=False)
    assert contents(tmp_path) == on_one_machine
    assert (tmp_path / "t.00000003").stat().st_mtime_ns == times


def test_a_repeated_transform_finds_its_shard_finished(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    job = handed_out(corpus, tmp_path)
    beam.write_partition(0, job)
    times = (tmp_path / "t.00000000").stat().st_mtime_ns
    beam.write_partition(0, job)
    assert (tmp_path / "t.00000000").stat().st_mtime_ns == times


def test_shards_of_a_killed_run_keep_its_settings(corpus: list[Utterance], tmp_path: Path) -> None:
    beam.write_partition(3, handed_out(corpus, tmp_path))
    message = refusal(corpus, tmp_path, replace(SETTINGS, padded=False))
    assert "padded True then, False now" in message
    assert "belongs to another corpus" in refusal(corpus[:7], tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["t.00000003", "t.index.json"]


@pytest.mark.parametrize("there", [[], SHARDS[1:2]])
def test_a_set_whose_job_outlives_its_run_keeps_its_settings(
    corpus: list[Utterance],
    tmp_path: Path,
    on_one_machine: dict[str, bytes],
    there: list[str],
) -> None:
    if there:
        for name in (*there, "t.index.json"):
            (tmp_path / name).write_bytes(on_one_machine[name])
    with (
        mock.patch.object(beam, "_run", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        run(corpus, tmp_path)
    index = read_index(str(tmp_path / "t"))
    assert index is not None and [shard.file for shard in index.shards] == there
    other = replace(SETTINGS, padded=False)
    assert "padded True then" in refusal(corpus, tmp_path, other)
    with pytest.raises(UserError, match="padded True then"):
        write_shards.prepare(corpus, str(tmp_path / "t"), other, 0, workers=1, strict=False)
    run(corpus, tmp_path)
    assert contents(tmp_path) == on_one_machine


def test_a_run_that_ends_without_a_shard_leaves_nothing(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    ended = beam._Ended(accepted=True, problem="no such project")
    with mock.patch.object(beam, "_run", return_value=ended):
        assert "no such project" in refusal(corpus, tmp_path)
    assert not list(tmp_path.iterdir())


def test_receipts_of_a_set_that_was_removed_are_forgotten(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    beam.write_partition(3, handed_out(corpus, tmp_path))
    (tmp_path / "t.00000003").unlink()
    index = run(corpus, tmp_path, replace(SETTINGS, padded=False))
    assert index.complete and not index.settings.padded


# --- What goes wrong ------------------------------------------------------------------------------


def test_strict_stops_at_an_unusable_utterance_and_keeps_finished_shards(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        write_shards.prepare(corpus, str(tmp_path / "local/t"), SETTINGS, 0, workers=1, strict=True)
    assert refusal(corpus, tmp_path / "beam", strict=True) == str(error.value)
    left = sorted(os.listdir(tmp_path / "beam"))
    assert SHARDS[1] not in left and [name for name in left if name.startswith(".")] == []
    others = [name for name in (SHARDS[0], SHARDS[2]) if name in left]
    assert left == [*others, "t.index.json"] if others else left == []
    assert run(corpus, tmp_path / "beam").complete


def test_no_shard_is_begun_after_a_failure(corpus: list[Utterance], tmp_path: Path) -> None:
    job = replace(handed_out(corpus, tmp_path), strict=True)
    beam.write_partition(3, job)
    beam.write_partition(6, job)
    assert sorted(os.listdir(tmp_path)) == [".t.run"]


def test_a_worker_without_access_to_the_folder_is_reported(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    def hand_out(utterances: list[Utterance], starts: tuple[int, ...], job: object) -> None:
        (tmp_path / "elsewhere").mkdir()

    with mock.patch.object(beam, "_distribute", hand_out):
        message = refusal(corpus, tmp_path)
    assert "--runner=DirectRunner ended without 3 of 3 shards" in message
    assert ".utterances.json can't be read" in message and "while running" not in message
    assert f"{tmp_path} at the same path" in message
    assert len(message.splitlines()) == 1


def test_the_message_of_a_remote_runner_is_cut_to_the_workers_message() -> None:
    expected = RuntimeError(
        "Pipeline job-1 failed in state FAILED: bundle inst001 failed:Traceback (most recent call "
        'last):\n  File "a.py", line 1, in f\n    raise UserError(x)\nutils.UserError: gs://b/a '
        "can't be reached. [while running 'write shard']\n\n"
    )
    assert beam._reason(expected) == "gs://b/a can't be reached"
    assert beam._reason(RuntimeError("first\nlast.\n")) == "last"
    assert beam._reason(KeyError()) == "KeyError"


def test_a_set_that_another_run_writes_is_refused(corpus: list[Utterance], tmp_path: Path) -> None:
    with exclusive(lock_path(str(tmp_path / "t"))):
        assert "Another run (process" in refusal(corpus, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_checks_of_the_local_path_are_made(corpus: list[Utterance], tmp_path: Path) -> None:
    assert "is outside the corpus" in refusal(corpus, tmp_path, start=8)
    run(corpus, tmp_path)
    assert "padded True then" in refusal(corpus, tmp_path, replace(SETTINGS, padded=False))
    assert "would cut through" in refusal(corpus, tmp_path, start=1)


def test_invalid_runners_and_options_are_reported_in_one_line(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    for runner, expected in [
        (Runner("NoRunner", []), "Unexpected pipeline runner: NoRunner"),
        (Runner("NoRunner", [], workers=2), "--workers=2 applies to this machine"),
        (Runner("DirectRunner", ["direct_num_workers=many"]), "invalid int value: 'many'"),
        (Runner("DirectRunner", ["--direct_running_mode=x"]), "invalid choice: 'x'"),
        (
            Runner("DirectRunner", ["direct_num_workes=3"]),
            "no option direct_num_workes. Did you mean direct_",
        ),
        (
            Runner("apache_beam.runners.DataflowRunner", ["max_num_worker=3"]),
            "Did you mean max_num_workers",
        ),
    ]:
        message = refusal(corpus, tmp_path, runner=runner)
        assert expected in message and len(message.splitlines()) == 1, message
    assert not list(tmp_path.iterdir())


def test_an_unreachable_job_server_is_not_blamed_on_the_workers(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    runner = Runner("PortableRunner", ["job_endpoint=localhost:1", "job_server_timeout=1"])
    message = refusal(corpus, tmp_path, runner=runner)
    assert message.startswith("--runner=PortableRunner has not accepted the job: ")
    assert "The workers need" not in message and len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_runner_s_message_names_the_options_only_if_there_are_some(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    message = refusal(corpus, tmp_path, runner=Runner("NoRunner", []))
    assert message.startswith("--runner=NoRunner: Unexpected")
    message = refusal(corpus, tmp_path, runner=Runner("NoRunner", ["parallelism=2"]))
    assert message.startswith("--runner=NoRunner --runner_options=parallelism=2: Unexpected")


def test_options_unknown_to_beam_cause_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = beam._pipeline(Runner("PortableRunner", ["parallelism=2", "paralelism=2"]))
    assert "the --runner_options paralelism: they take effect" in caplog.text
    assert pipeline.options.get_all_options(retain_unknown_options=True)["paralelism"] == "2"


def test_the_direct_runner_is_known_by_its_full_name() -> None:
    runner = Runner("apache_beam.runners.direct.direct_runner.DirectRunner", [], workers=2)
    assert runner.direct and "direct_num_workers=2" in runner.all_options()


def test_a_missing_beam_is_reported_with_the_remedy(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    with mock.patch.dict(sys.modules, {"apache_beam": None}):
        message = refusal(corpus, tmp_path)
    assert "--runner=DirectRunner needs Apache Beam: pip install '.[beam]'" in message


# --- The door -------------------------------------------------------------------------------------


def test_the_door_prepares_with_beam_in_several_processes(
    speech: Path, tmp_path: Path, on_one_machine: dict[str, bytes]
) -> None:
    flags = [
        f"--files_path={speech}",
        f"--tfrecords_file={tmp_path}/t",
        *("--partition_size=3", "--max_sequence_length=50", "--max_label_length=12"),
        *("--runner=DirectRunner", "--runner_options=direct_runner_bundle_repeat=0"),
    ]
    strict = run_door("prepare_libri.py", *flags, "--strict")
    assert_error(strict, "1-1-0004: unknown character", "leave it out of the corpus")
    outcome = run_door("prepare_libri.py", *flags, "--workers=2")
    assert outcome.returncode == 0, outcome.stderr
    assert "7 of 8" in outcome.stdout and "unknown character" in outcome.stdout
    assert contents(tmp_path) == on_one_machine


def test_ctrl_c_stops_it_without_a_traceback(speech: Path, tmp_path: Path) -> None:
    program = """
import os, signal
import prepare_libri
from speech.preparation import beam
from speech.system import command_line

def pressed_ctrl_c(*unused):
    os.kill(os.getpid(), signal.SIGINT)

beam.prepare_utterance = pressed_ctrl_c
prepare_libri.define_flags()
command_line.run(prepare_libri.main)
"""
    flags = [f"--files_path={speech}", f"--tfrecords_file={tmp_path}/t", "--runner=DirectRunner"]
    outcome = subprocess.run(
        [sys.executable, "-c", program, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == 130, outcome.stderr
    assert outcome.stderr.endswith("stopped\n") and "Traceback" not in outcome.stderr
    assert not list(tmp_path.rglob("*.partial"))


def test_flags_that_require_others_are_refused(speech: Path) -> None:
    flags = (f"--files_path={speech}", "--tfrecords_file=t")
    options = run_door("prepare_libri.py", *flags, "--runner_options=project=p")
    assert_error(options, "--runner_options", "--runner")
    stats = run_door("prepare_libri.py", "--files_path=gs://b/speech", flags[1], "--stats")
    assert_error(stats, "--stats reads only local files")


def test_a_run_imports_no_tensorflow_and_the_door_no_beam(speech: Path, tmp_path: Path) -> None:
    program = f"""
import sys
import prepare_libri, utils
from speech.corpora.formats.librispeech import find_utterances
from speech.features.front_end import FrontEnd
from speech.preparation import beam
from speech.shards.index import ShardSettings
assert "apache_beam" not in sys.modules
settings = ShardSettings(FrontEnd(), utils.ENGLISH, 3, 50, 12, True, 2)
utterances = find_utterances(["{speech}"])
runner = beam.Runner("DirectRunner", [])
assert beam.prepare(utterances, "{tmp_path}/t", settings, 0, runner, False).complete
assert "apache_beam" in sys.modules and "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
