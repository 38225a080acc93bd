"""Damages files of every kind that the program reads, and uses them in a process that may die.

    PYTHONPATH=. python tests/support/mutations.py SEED FIRST END KIND...

makes and uses the mutations from FIRST to END of some kinds. It prints each number before the file
is read, and ends with status 1 and a traceback at the first file that is neither read nor refused
with a UserError.
"""

import faulthandler
import json
import random
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import constants
from utils import ENGLISH, UserError

# Seconds after which a mutation counts as hanging, and maximum memory of the process.
HANGS = 90
MEMORY = 24 * 2**30

NUMBERS = (0, 1, -1, 2, 127, 255, 2**15, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, 2**63, 10**30)
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x", "1", "\u00e9\ud800", [], {}, [None], [[]], {"a": 1}, 0.5, -0.0),
    *(1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf"), "9" * 50, [1] * 9),
    *NUMBERS,
)


# --- Mutations ------------------------------------------------------------------------------------


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flips, cuts, inserts or overwrites some bytes."""
    changed = bytearray(content)
    place = rng.randrange(len(content))
    match rng.randrange(7):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + rng.randbytes(rng.randrange(1, 9)) + content[place:]
        case 2:
            end = place + rng.randrange(1, 40)
            return content[:place] + content[end:]
        case 3:
            number = rng.choice(NUMBERS) % 2**32
            changed[place : place + 4] = number.to_bytes(4, "little")
        case 4:
            changed[place : place + 30] = bytes(len(changed[place : place + 30]))
        case _:
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_json(rng: random.Random, content: bytes) -> bytes:
    """Changes a value or a name somewhere in a JSON text, or its bytes."""
    if rng.random() < 0.3:
        return change_bytes(rng, content)
    root = [json.loads(content)]
    for _ in range(rng.choice((1, 1, 1, 2))):
        _change_inside(rng, root)
    return json.dumps(root[0]).encode()


def _change_inside(rng: random.Random, root: list[Any]) -> None:
    places: list[tuple[Any, Any]] = []

    def collect(part: Any) -> None:
        keys = part if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                collect(part[key])

    collect(root)
    part, key = rng.choice(places)
    match rng.randrange(6):
        case 0 if part is not root:
            del part[key]
        case 1 if isinstance(part, dict):
            part[rng.choice(("x", "", key + "_", key.upper()))] = part.pop(key)
        case 2 if isinstance(part[key], (int, float)):
            part[key] = part[key] * rng.choice((-1, 0, 2, 10, 0.5)) + rng.choice((0, 1, -1))
        case 3 if isinstance(part, list):
            part.append(part[key])
        case _:
            part[key] = rng.choice(VALUES)


def change_lines(rng: random.Random, content: bytes) -> bytes:
    """Changes the JSON of a line, or bytes."""
    lines = content.splitlines(keepends=True)
    if rng.random() < 0.3:
        return change_bytes(rng, content)
    number = rng.randrange(len(lines))
    lines[number] = change_json(rng, lines[number]) + b"\n"
    return b"".join(lines)


def change_text(rng: random.Random, content: bytes) -> bytes:
    """Changes a number or a word of a text, or bytes."""
    if rng.random() < 0.3:
        return change_bytes(rng, content)
    if (numbers := list(re.finditer(rb"[-+]?\d+(\.\d+)?", content))) and rng.random() < 0.5:
        start, end = rng.choice(numbers).span()
        number = rng.choice((*map(str, NUMBERS), "0.1", "-0.7", "-1e38", "nan", "-inf", "1e999"))
        return content[:start] + number.encode() + content[end:]
    words = content.split(b" ")
    words[rng.randrange(len(words))] = rng.choice(
        (b"", b"\0", b"\xff", b'"', b"\\", b"nan", b"-1", b"9" * 30, b"[" * 9, b"\n", b"x" * 5000)
    )
    return b" ".join(words)


def change_scorer(rng: random.Random, content: bytes) -> bytes:
    """Changes a scorer's numbers and corrects its checksums."""
    from scorers import Parts

    parts = Parts.of(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        array = rng.choice((parts.letters, parts.model))
        field = rng.choice(array.dtype.names or ())
        place = rng.choice((0, 1, -1, -2, rng.randrange(len(array))))
        match rng.randrange(8):
            case 0:
                parts.content[rng.choice(list(parts.content))] = rng.choice(VALUES)
            case 1:
                nodes = parts.content.get("nodes")
                if isinstance(nodes, list) and len(nodes) == 2:
                    nodes[rng.randrange(2)] += rng.choice((-1, 1, 100, -100))
            case 2:
                parts.head[rng.choice((2, 3))] = rng.choice((1e308, -1.0, float("nan"), 99.0))
            case 3:
                turned = array[field][::-1].copy()
                array[field] = turned if rng.random() < 0.5 else array[field][place]
            case _ if array.dtype[field] == np.int32:
                near = int(array[field][place]) + rng.randrange(-3, 4)
                number = rng.choice((near, rng.randrange(len(array) + 2), rng.choice(NUMBERS)))
                array[field][place] = (number + 2**31) % 2**32 - 2**31
            case _:
                array[field][place] = rng.choice((0.1, -1e30, 99.0, *map(float, ("nan", "-inf"))))
    return parts.packed()


# --- Kinds ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file: functions that make, change and use it."""

    make: Callable[[Path], Path]  # in a folder; returns the file
    change: Callable[[random.Random, bytes], bytes]
    use: Callable[[Path], object]  # of the file


def make_scorer(folder: Path) -> Path:
    from arpa_models import write_lines

    from speech.decoding.scorer import write_scorer

    words = ("cab", "abc", "bad", "a", "faded")
    pairs = [f"-0.{3 + i}\t{one} {two}\t-0.1" for i, one in enumerate(words) for two in words]
    triples = [f"-0.{2 + i}\t{one} a bad" for i, one in enumerate(words)]
    unigrams = [f"-1.{i}\t{word}\t-0.2" for i, word in enumerate(words)]
    counts = [f"ngram 1={len(words) + 3}", f"ngram 2={len(pairs)}", f"ngram 3={len(triples)}"]
    lines = ["\\data\\", *counts, "", "\\1-grams:", "-99\t<s>\t-0.3", "-1\t</s>", "-2\t<unk>"]
    lines += [*unigrams, "", "\\2-grams:", *pairs, "", "\\3-grams:", *triples, "", "\\end\\"]
    path = folder / "kenlm.scorer"
    arpa = write_lines(folder / "lm.arpa", lines)
    write_scorer(str(path), arpa, [*words, "decade"], ENGLISH, 0.8, 1.2, characters=False)
    return path


def use_scorer(path: Path) -> None:
    from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
    from speech.decoding.scorer import read_scorer

    scorer = read_scorer(str(path))
    logits = np.random.default_rng(0).normal(size=(40, scorer.alphabet.size)) * 3
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    for hot_words in ((), (("face", 3.0),)):
        settings = BeamSettings(beam_width=40, hot_words=hot_words)
        BeamSearchDecoder(scorer.alphabet, settings, scorer).n_best(log_probs, 3)


def make_lite(folder: Path) -> Path:
    from tiny_models import tiny_config

    from speech.export import tflite
    from speech.export.acoustic_graph import AcousticGraph
    from speech.export.description import Description

    config = tiny_config("deep_speech_lstm")
    path = folder / "model.tflite"
    graph = AcousticGraph(config)
    path.write_bytes(tflite.convert(graph, Description(config, 3), tflite.FLOAT32))
    return path


def use_model(path: Path) -> None:
    from tiny_models import noise

    from speech.export import loading

    model = loading.load(str(path))
    model.of_samples(noise(4000))


def make_saved_model(folder: Path) -> Path:
    from tiny_models import tiny_config

    from speech.export import saved_model
    from speech.export.acoustic_graph import AcousticGraph
    from speech.export.description import Description
    from speech.export.loading import GRAPH_FILE

    config = tiny_config()
    saved_model.save(AcousticGraph(config), Description(config, 3), str(folder / "saved"))
    return folder / "saved" / GRAPH_FILE


def load_model_of(path: Path) -> None:
    """Only loads it: a graph is a program, which damage may turn into any other."""
    from speech.export import loading

    loading.load(str(path.parent))


def make_model(folder: Path) -> Path:
    from tiny_models import write_model

    write_model(folder / "model", "deep_speech_lstm", normalisation="corpus")
    return folder / "model" / "config.json"


def use_model_of(path: Path) -> None:
    use_model(path.parent)


def make_names(folder: Path) -> Path:
    return make_model(folder).parent / "checkpoint"


def use_names(path: Path) -> None:
    from speech.engines import checkpoints

    folder = str(path.parent)
    content = path.read_bytes()
    checkpoints.drop_damaged(folder)
    path.write_bytes(content)
    checkpoints.steps_of(checkpoints.find_checkpoint(folder, None))


def make_index(folder: Path) -> Path:
    from tiny_shards import random_utterances, write_shards

    write_shards(folder, random_utterances([40] * 9, bins=4), name="t", normalisation="corpus")
    return folder / "t.index.json"


def use_index(path: Path) -> None:
    from speech.shards import shard_set, verify

    name = str(path).removesuffix(constants.INDEX_SUFFIX)
    index = shard_set.find_shards(f"{name}.*").index
    index.to_json()
    assert index.statistics is not None
    assert index.audio_seconds >= 0 and index.frames_histogram
    verify.verify(name)


def make_receipt(folder: Path) -> Path:
    from speech.shards.index import read_index
    from speech.shards.paths import run_folder

    index = read_index(str(make_index(folder)).removesuffix(constants.INDEX_SUFFIX))
    assert index is not None
    path = Path(run_folder(str(folder / "t"))) / f"00000000{constants.INDEX_SUFFIX}"
    path.parent.mkdir()
    path.write_text(index.without_shard(index.shards[1]).to_json())
    return path


def use_receipt(path: Path) -> None:
    from speech.preparation import resume

    resume._read_receipt(str(path.parent.parent / "t"), str(path))


def make_history(folder: Path) -> Path:
    from speech.training.history import HISTORY_FILE, DevResult, History, TrainingPoint

    history = History(str(folder), 0)
    for step in (3, 6):
        history.add(TrainingPoint(step, 1.5, 1e-3))
        history.add(DevResult(step, 1.5, 0.5, 0.2, None, None, True))
    history.save()
    return folder / HISTORY_FILE


def use_history(path: Path) -> None:
    from speech.training.history import History, mean_loss

    history = History(str(path.parent), 6)
    mean_loss(history.training)
    history.best, history.is_evaluated(6)
    History(str(path.parent), 6).save()


def make_job(folder: Path) -> Path:
    from sagemaker_folder import lay

    make_index(folder / "input" / "data" / "train")
    lay(folder, {"max_epochs": "2", "augment": '["a", "b"]', "sagemaker_program": "x"}, "train")
    return folder / "input" / "config" / "hyperparameters.json"


def make_channels(folder: Path) -> Path:
    return make_job(folder).parent / "inputdataconfig.json"


def make_hosts(folder: Path) -> Path:
    return make_job(folder).parent / "resourceconfig.json"


def use_job(path: Path) -> None:
    from speech.sagemaker import job

    job.read_job(job.Folder(path.parent.parent.parent))


def make_logits(folder: Path) -> Path:
    from speech.evaluation import logits_cache
    from speech.evaluation.network_output import NetworkOutput

    rng = np.random.default_rng(0)
    found = [
        NetworkOutput(f"1-{n}", "a \u00e9", rng.normal(size=(7, 5)).astype(np.float32), 1.0)
        for n in range(3)
    ]
    path = folder / "logits.npz"
    path.write_bytes(logits_cache.pack(found))
    return path


def use_logits(path: Path) -> None:
    from speech.evaluation import logits_cache

    for each in logits_cache.unpack(path.read_bytes(), str(path)):
        assert each.log_probs.ndim == 2


def make_alphabet(folder: Path) -> Path:
    path = folder / "alphabet.txt"
    path.write_text("# of a test\na\nb\n \n'\n\\#\n\u00e9\n", encoding="utf-8")
    return path


def use_alphabet(path: Path) -> None:
    from speech.text.alphabets import read_alphabet

    alphabet = read_alphabet(str(path))
    alphabet.decode(range(alphabet.size))


def make_description(folder: Path) -> Path:
    from tiny_models import tiny_config

    from speech.export.description import Description, Naming

    path = folder / "description.json"
    path.write_text(Description(tiny_config(), 3, Naming("a", "b")).to_json())
    return path


def use_description(path: Path) -> None:
    from speech.export.description import Description
    from speech.system import storage

    text = storage.read_text(str(path))
    Description.from_json(text, str(path)).to_json()


def make_results(folder: Path) -> Path:
    from speech.evaluation.results import UTTERANCES_FILE

    path = folder / UTTERANCES_FILE
    path.write_text("utterance_id,reference,hypothesis,loss\n1-1,a b,a c,1.5\n1-2,b,b,\n")
    return path


def use_results(path: Path) -> None:
    from speech.evaluation import results

    results.read_results(str(path.parent))


def make_arpa(folder: Path) -> Path:
    make_scorer(folder)
    return folder / "lm.arpa"


def use_arpa(path: Path) -> None:
    from speech.decoding.scorer import write_scorer

    scorer = path.parent / "kenlm.scorer"
    write_scorer(str(scorer), str(path), ["cab", "bad"], ENGLISH, 0.8, 1.2, characters=False)
    use_scorer(scorer)


KINDS = {
    "scorer": Kind(make_scorer, change_bytes, use_scorer),
    "resealed scorer": Kind(make_scorer, change_scorer, use_scorer),
    "ARPA": Kind(make_arpa, change_text, use_arpa),
    "index": Kind(make_index, change_json, use_index),
    "receipt": Kind(make_receipt, change_json, use_receipt),
    "history": Kind(make_history, change_lines, use_history),
    "description": Kind(make_description, change_json, use_description),
    "hyperparameters": Kind(make_job, change_json, use_job),
    "channels": Kind(make_channels, change_json, use_job),
    "hosts": Kind(make_hosts, change_json, use_job),
    "logits": Kind(make_logits, change_bytes, use_logits),
    "alphabet": Kind(make_alphabet, change_text, use_alphabet),
    "results": Kind(make_results, change_text, use_results),
    "config": Kind(make_model, change_json, use_model_of),
    "checkpoint": Kind(make_names, change_text, use_names),
    "SavedModel": Kind(make_saved_model, change_bytes, load_model_of),
    "TensorFlow Lite": Kind(make_lite, change_bytes, use_model),
}


def run(kind: Kind, seed: int, numbers: range, folder: Path) -> Iterator[tuple[int, str]]:
    """Uses mutations; yields (number, "") before and (number, outcome) after each."""
    path = kind.make(folder)
    whole = path.read_bytes()
    kind.use(path)
    for number in numbers:
        faulthandler.dump_traceback_later(HANGS, exit=True)
        yield number, ""
        path.write_bytes(kind.change(random.Random(f"{seed} {number}"), whole))
        try:
            kind.use(path)
        except UserError as error:
            yield number, f"refused: {error}"
        else:
            yield number, "read"
    faulthandler.cancel_dump_traceback_later()


def main(seed: str, first: str, end: str, *names: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            numbers = range(int(first), int(end))
            for number, what in run(KINDS[name], int(seed), numbers, Path(folder)):
                print(f"{name} {number} {what!r}" if what else f"{name} {number}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
