"""KenLM's programs: lmplz estimates a model from text, build_binary packs it.

They are compiled by `make kenlm` (https://kheafield.com/code/kenlm).
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

# lmplz touches a share of the memory that it is given, 5 GB of 20 for a few lines. It has no use
# for more than its tables, which any text needs, and so many bytes a token and order, and is as
# fast.
BYTES_PER_TOKEN = 32
LEAST_BYTES = 2**28


@dataclass(frozen=True)
class Programs:
    lmplz: str  # paths
    build_binary: str


@dataclass(frozen=True)
class Estimation:
    """How lmplz estimates a model."""

    order: int
    prune: tuple[int, ...]  # an n-gram of order i + 1 that occurs no more than prune[i] times goes
    discount_fallback: bool  # for text in which no discounts can be found
    memory: str  # at most, in lmplz's notation


@dataclass(frozen=True)
class Packing:
    """How build_binary packs a model; the bits are of a trie alone."""

    binary_type: str  # one of BINARY_TYPES
    pointer_bits: int  # at most, of an array that compresses pointers
    quantised_bits: int  # of probabilities and back-off weights


def find(folder: str | None, default: str) -> Programs | None:
    """The programs in a folder, in `default` or on the PATH; None: there are none.

    Args:
        folder: where they have to be; None: anywhere.

    Raises:
        UserError: they aren't in the folder that is named.
    """
    if folder is not None:
        there = _in_folder(folder)
        if there is None:
            raise UserError(
                f"--kenlm_bins={folder} has no {LMPLZ} and {BUILD_BINARY} that run: name the "
                "folder that has KenLM's programs, or compile them with make kenlm."
            )
        return there
    return _in_folder(default) or _in_folder(None)


def _in_folder(folder: str | None) -> Programs | None:
    found = [shutil.which(name, path=folder) for name in (LMPLZ, BUILD_BINARY)]
    return Programs(*map(str, found)) if all(found) else None


def memory_bytes(memory: str) -> int:
    """Bytes of memory in lmplz's notation; % is of this machine's.

    Raises:
        UserError: it isn't memory.
    """
    match = MEMORY.fullmatch(memory)
    if match is None or not float(match[1]):
        raise UserError(
            f"--max_arpa_memory={memory} is no amount of memory: give a share of this machine's, "
            "as in 85%, or a size, as in 500M or 8G."
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
        text: path of the sentences, one a line.
        tokens: how many there are in it.
        vocabulary: path of the words that the model may know, one a line; None: all.

    Raises:
        UserError: lmplz fails; with what it said and the remedy.
    """
    needed = LEAST_BYTES + tokens * estimation.order * BYTES_PER_TOKEN
    memory = min(needed, memory_bytes(estimation.memory))
    command = [programs.lmplz, "--order", str(estimation.order)]
    command += ["--temp_prefix", os.path.join(os.path.dirname(arpa), "lmplz-")]
    command += ["--memory", f"{memory}b", "--text", text, "--arpa", arpa]
    command += ["--prune", *map(str, estimation.prune)]
    if vocabulary is not None:
        # DeepSpeech lets lmplz write all n-grams and KenLM's filter strike out those with other
        # words. Then the probabilities behind a word no longer add up to one. Told of the
        # vocabulary, lmplz gives what these n-grams had to shorter ones, and no file of all of
        # them is ever written.
        command += ["--limit_vocab_file", vocabulary]
    if estimation.discount_fallback:
        command += ["--discount_fallback"]
    _run(command)


def pack(programs: Programs, arpa: str, binary: str, packing: Packing) -> None:
    """Writes KenLM's binary form of an ARPA file, as DeepSpeech does.

    Raises:
        UserError: build_binary fails; with what it said.
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


def _failure(program: str, code: int, said: str) -> str:
    """What a program's end means to who ran it."""
    # Behind where in its source it failed; between its bars of progress.
    lines = [line for line in lines_of(said) if line.strip("-*0123456789 ")]
    reason = lines[-1].strip() if lines else f"status {code}"
    if "--discount_fallback" in said:
        reason = next(line for line in lines if "discounts" in line)
        remedy = "Give more text, or --discount_fallback, which takes fixed discounts instead."
    elif "No space left" in said:
        remedy = "Make room, or choose another folder with --output_dir."
    elif "conservative -S" in said or "minimum block size" in said:
        remedy = "Give another --max_arpa_memory, such as 500M."
    elif code == -signal.SIGKILL:
        reason = "it was killed."
        remedy = "If the machine's memory ran out, lower --max_arpa_memory."
    else:
        remedy = "With --logging=debug all that it said is shown."
    return f"{program} failed: {reason} {remedy}"
