"""Makes the files that test_made_before.py reads, by running the doors.

  PYTHONPATH=tests/support:. python tests/compatibility/make_data.py FOLDER

writes an archive of each kind into FOLDER. Those in data/ are of one version and never change.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from doors import ROOT, environment_of_door
from tone_model import GAP_SECONDS, tone, write_tone_model

SAMPLE_RATE = 16000

# Utterance -> transcript, and groups of letters whose tones sound at the same time.
Spoken = dict[str, tuple[str, Sequence[str]]]

TRAIN: Spoken = {
    f"1-{1 + number // 3}-{number % 3:04d}": (text.upper(), text)
    for number, text in enumerate(
        ["a cat", "a bat", "cat at", "a tab", "act a", "cab", "at bat", "tact", "a cab"]
    )
}
DEV: Spoken = {
    "2-1-0000": ("A CAT", "a cat"),
    "2-1-0001": ("A CAT", "acat"),
    "2-1-0002": ("TAB", ["t", "a", "cb"]),
    "2-1-0003": ("CAB", "ca b"),
    "2-1-0004": ("A TAB", ["a", "t ", "a", "b"]),
}
TEST: Spoken = {
    "3-1-0000": ("CAT AT", "cat at"),
    "3-1-0001": ("A CAT", ["a", " ", "bc", "a", "t"]),
    "3-1-0002": ("A TAB", "a cab"),
    "3-1-0003": ("A CAB", ["a", " ", "c", "a", "cb"]),
}

TEXT = ["a cat", "cat at", "a tab", "the cab", "a cab", "act", "a bat", "a cat at a cab"]

# Runs a door that dies, as by kill -9, when it would give a file a name that ends in `ending`.
KILLED = """
import os, runpy, sys
_, root, ending, door, *flags = sys.argv
sys.argv = [door, *flags]
sys.path.insert(0, root)
rename = os.replace
os.replace = lambda old, new: os._exit(9) if new.endswith(ending) else rename(old, new)
runpy.run_path(os.path.join(root, door), run_name="__main__")
"""

SHARDS = ("--nrof_fbanks=8", "--max_sequence_length=100", "--max_label_length=8", "--workers=1")
SMALL_SHARDS = (*SHARDS, "--partition_size=3")
TRAINING = ("--train_batch_size=3", "--learning_rate=1e-3")


def main(target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder, "corpus"))
        make_shards(folder)
        make_csv(folder)
        make_models(folder)
        make_language_model(folder)
        make_reports(folder)
        make_exports(folder)
        leave_out_pictures(Path(folder))
        for kind in sorted(os.listdir(folder)):
            pack(Path(folder, kind), Path(target, f"{kind}.tar.xz"))


def run(folder: str, door: str, *flags: str) -> None:
    """Runs a door in `folder`, so that all paths are relative."""
    environment = environment_of_door({"DEEP_SPEECH_KENLM_BINS": "/nowhere", "PATH": "/nowhere"})
    arguments = [sys.executable, str(ROOT / door), *flags]
    subprocess.run(arguments, cwd=folder, env=environment, check=True)


def make_corpus(folder: Path) -> None:
    """Writes tones in LibriSpeech's layout."""
    gap = np.zeros(round(GAP_SECONDS * SAMPLE_RATE))
    for name, spoken in {"train": TRAIN, "dev": DEV, "test": TEST}.items():
        for utterance, (text, letters) in spoken.items():
            speaker, chapter, _ = utterance.split("-")
            chapter_folder = folder / name / speaker / chapter
            chapter_folder.mkdir(parents=True, exist_ok=True)
            with open(chapter_folder / f"{speaker}-{chapter}.trans.txt", "a") as file:
                file.write(f"{utterance} {text}\n")
            sound = np.concatenate([part for each in letters for part in (tone(each), gap)])
            path = chapter_folder / f"{utterance}.flac"
            soundfile.write(path, sound.astype(np.int16), SAMPLE_RATE)


def make_shards(folder: str) -> None:
    sets = {
        "padded": SMALL_SHARDS,
        "nopad": (*SMALL_SHARDS, "--nopad", "--normalisation=corpus"),
        "tones": (*SHARDS, "--normalisation=none"),
    }
    for kind, flags in sets.items():
        for name in ("train", "dev", "test"):
            copies: tuple[str, ...] = ()
            if (kind, name) == ("nopad", "train"):
                copies = ("--augment=volume[p=1,dbfs=-20~6]", "--augmented_copies=1")
            prepare(folder, f"shards/{kind}", name, *flags, *copies)
    make_unfinished(folder)


def make_unfinished(folder: str) -> None:
    """Kills preparations at their second shard, without and with Beam."""
    dying = (sys.executable, "-c", KILLED, str(ROOT), ".00000003", "prepare_libri.py")
    for kind, runner in {"alone": (), "beam": ("--runner=DirectRunner",)}.items():
        flags = (*corpus_and_shards(f"unfinished/{kind}", "train"), *SMALL_SHARDS, *runner)
        environment = environment_of_door({})
        killed = subprocess.run([*dying, *flags], cwd=folder, env=environment, check=False)
        assert killed.returncode == 9


def corpus_and_shards(shards: str, name: str) -> list[str]:
    return [f"--files_path=corpus/{name}", f"--tfrecords_file={shards}/{name}.tfrecords"]


def prepare(folder: str, shards: str, name: str, *flags: str) -> None:
    run(folder, "prepare_libri.py", *corpus_and_shards(shards, name), *flags)


def make_csv(folder: str) -> None:
    """Exports the development set as a table with audio, and prepares shards from it."""
    run(folder, "prepare_csv.py", "--dev_files=corpus/dev", "--write_csv=csv", "--workers=1")
    table = ("--dev_files=csv/dev.csv", "--alphabet=csv/alphabet.txt")
    run(folder, "prepare_csv.py", *table, "--make_alphabet")
    run(folder, "prepare_csv.py", *table, *SHARDS, "--tfrecords_dir=csv/shards")


def data(shards: str) -> list[str]:
    return [f"--{name}_data=shards/{shards}/{name}.tfrecords.*" for name in ("train", "dev")]


def make_models(folder: str) -> None:
    run(
        folder,
        "training.py",
        *data("padded"),
        *("--model_dir=models/deep_speech_1", "--conv_channels=2,2", "--recurrent_unit_size=8"),
        *(*TRAINING, "--train_steps=6", "--eval_steps=3", "--save_checkpoints_steps=3"),
        *("--keep_checkpoint_max=2", "--average_checkpoints=2", "--best_by=loss"),
        *("--early_stop", "--es_epochs=2", "--es_min_delta=1000"),
        *("--reduce_lr_on_plateau", "--plateau_epochs=1"),
    )
    run(
        folder,
        "training.py",
        *data("nopad"),
        *("--model_dir=models/conv_gru", "--network=conv_gru", "--conv_channels=4"),
        *("--recurrent_layers=1", "--recurrent_unit_size=24", *TRAINING, "--train_steps=6"),
        "--augment=time_mask[p=0.5,n=1,size=100~50]",
    )
    write_tone_model(Path(folder, "models/tones"))


def make_language_model(folder: str) -> None:
    Path(folder, "lm").mkdir()
    Path(folder, "lm/text.txt").write_text("".join(f"{line}\n" for line in TEXT))
    small = ("--arpa_order=3", "--arpa_prune=0", "--discount_fallback")
    # Bad weights, for which the search finds better ones.
    weights = ("--default_alpha=0", "--default_beta=6")
    run(folder, "build_lm.py", "--input_txt=lm/text.txt", "--output_dir=lm", *small, *weights)
    os.remove(Path(folder, "lm/text.txt"))


def make_reports(folder: str) -> None:
    """Makes a report without a scorer, the network's output, and a search's trials."""
    model = ("--model_dir=models/tones", "--logits_cache=logits")
    test = "--test_data=shards/tones/test.tfrecords.*"
    run(folder, "eval.py", *model, test, "--report_dir=report")
    run(
        folder,
        *("tune_lm.py", *model, "--dev_data=shards/tones/dev.tfrecords.*"),
        *("--scorer=lm/kenlm.scorer", "--nowrite", "--n_trials=12", "--output_dir=tuning"),
    )


def make_exports(folder: str) -> None:
    named = ("--export_model_name=Tones", "--export_language=en-US")
    for model in ("tones", "conv_gru"):
        run(
            folder,
            *("export.py", f"--model_dir=models/{model}", f"--export_dir=exports/{model}", *named),
            "--formats=saved_model,tflite,tflite_int8",
        )


def leave_out_pictures(folder: Path) -> None:
    """Removes pictures, pages and graphs: most of the bytes, which no door reads."""
    for path in folder.rglob("*"):
        graph = path.name == "graph.pbtxt" or path.suffix == ".meta" or "tfevents" in path.name
        if graph or path.suffix in (".png", ".html"):
            path.unlink()


def pack(folder: Path, archive: Path) -> None:
    """Packs a folder into an archive without owners and times."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz") as file:
        file.add(folder, folder.name, filter=anonymous)


if __name__ == "__main__":
    main(sys.argv[1])
