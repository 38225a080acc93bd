"""Runs KenLM's programs: lmplz estimates a model from text, build_binary packs it.

`make kenlm` compiles them (https://kheafield.com/code/kenlm).
"""

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass

from absl import logging

from utils import UserError, lines_of

LMPLZ = "lmplz"
BUILD_BINARY = "build_binary"

BINARY_TYPES = ("trie", "probing")

# Memory in lmplz's notation, which is GNU sort's: without a unit in KiB.
MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([bKMGT%]?)")
UNITS = {"b": 1, "": 2**10, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

# lmplz uses a share of the memory that it is given, 5 GB of 20 for a few lines. It is as fast with
# the memory of its tables, which any text needs, and this many bytes per token and order.
BYTES_PER_TOKEN = 32
LEAST_BYTES = 2**28


@dataclass(frozen=True)
class Programs:
    """Paths of KenLM's programs."""

    lmplz: str
    build_binary: str


@dataclass(frozen=True)
class Estimation:
    """How lmplz estimates a model."""

    order: int
    prune: tuple[int, ...]  # n-grams of order i + 1 that occur at most prune[i] times are dropped
    discount_fallback: bool  # fixed discounts if the text is too small to estimate them
    memory: str  # maximum, in lmplz's notation


@dataclass(frozen=True)
class Packing:
    """How build_binary packs a model; the bits apply to a trie only."""

    binary_type: str  # one of BINARY_TYPES
    pointer_bits: int  # maximum, of an array that compresses pointers
    quantised_bits: int  # of probabilities and back-off weights


def find(folder: str | None, default: str) -> Programs | None:
    """Finds the programs in a folder, else in `default` or on the PATH; None if missing.

    Args:
        folder: required folder; None: `default` or the PATH.

    Raises:
        UserError: they aren't in the required folder.
    """
    if folder is not None:
        found = _in_folder(folder)
        if found is None:
            raise UserError(
                f"--kenlm_bins={folder} has no executable {LMPLZ} and {BUILD_BINARY}: name the "
                "folder of KenLM's programs, or compile them with make kenlm."
            )
        return found
    return _in_folder(default) or _in_folder(None)


def _in_folder(folder: str | None) -> Programs | None:
    found = [shutil.which(name, path=folder) for name in (LMPLZ, BUILD_BINARY)]
    return Programs(*map(str, found)) if all(found) else None


def memory_bytes(memory: str) -> int:
    """Returns the bytes of an amount in lmplz's notation; % refers to this machine's memory.

    Raises:
        UserError: it isn't in this notation.
    """
    match = MEMORY.fullmatch(memory)
    if match is None or not float(match[1]):
        raise UserError(
            f"--max_arpa_memory={memory} is not an amount of memory: give a share of this "
            "machine's, as in 85%, or a size, as in 500M or 8G."
        )
    if match[2] == "%":
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(float(match[1]) / 100 * machine)
    return int(float(match[1]) * UNITS[match[2]])


def estimate(
    programs: Programs,
    text: str,
    tokens: int,
    arpa: str,
    estimation: Estimation,
    vocabulary: str | None,
) -> None:
    """Estimates a model with modified Kneser-Ney smoothing and writes its ARPA file.

    Args:
        text: path of the sentences, one per line.
        tokens: number of tokens of the text.
        vocabulary: path of the vocabulary, one word per line; None: all words.

    Raises:
        UserError: lmplz fails; with its message and the remedy.
    """
    needed = LEAST_BYTES + tokens * estimation.order * BYTES_PER_TOKEN
    memory = min(needed, memory_bytes(estimation.memory))
    command = [programs.lmplz, "--order", str(estimation.order)]
    command += ["--temp_prefix", os.path.join(os.path.dirname(arpa), "lmplz-")]
    command += ["--memory", f"{memory}b", "--text", text, "--arpa", arpa]
    command += ["--prune", *map(str, estimation.prune)]
    if vocabulary is not None:
        # DeepSpeech writes all n-grams with lmplz and filters those with other words, so that the
        # probabilities after a word no longer add up to one. With a vocabulary, lmplz moves their
        # probability to shorter n-grams, and never writes a file of all n-grams.
        command += ["--limit_vocab_file", vocabulary]
    if estimation.discount_fallback:
        command += ["--discount_fallback"]
    _run(command)


def pack(programs: Programs, arpa: str, binary: str, packing: Packing) -> None:
    """Writes KenLM's binary form of an ARPA file, as DeepSpeech does.

    Raises:
        UserError: build_binary fails; with its message.
    """
    bits = ["-a", str(packing.pointer_bits), "-q", str(packing.quantised_bits), "-v"]
    options = bits if packing.binary_type == "trie" else []
    _run([programs.build_binary, *options, packing.binary_type, arpa, binary])


def _run(command: list[str]) -> None:
    logging.debug("%s", " ".join(command))
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise UserError(
            f"{command[0]} can't be run: {error.strerror}. Compile it again: make kenlm."
        ) from None
    logging.debug("%s", ended.stderr)
    if ended.returncode:
        raise UserError(_failure(os.path.basename(command[0]), ended.returncode, ended.stderr))


def _failure(program: str, code: int, output: str) -> str:
    """Returns the reason of a program's failure, and the remedy."""
    # The reason follows the place in the source code, between progress bars.
    lines = [line for line in lines_of(output) if line.strip("-*0123456789 ")]
    reason = lines[-1].strip() if lines else f"status {code}"
    if "--discount_fallback" in output:
        reason = next(line for line in lines if "discounts" in line)
        remedy = "Give more text, or --discount_fallback for fixed discounts."
    elif "No space left" in output:
        remedy = "Free disk space, or choose another folder with --output_dir."
    elif "conservative -S" in output or "minimum block size" in output:
        remedy = "Give another --max_arpa_memory, such as 500M."
    elif code == -signal.SIGKILL:
        reason = "it was killed."
        remedy = "If the machine's memory ran out, lower --max_arpa_memory."
    else:
        remedy = "See its full output with --logging=debug."
    return f"{program} failed: {reason} {remedy}"
