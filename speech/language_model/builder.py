"""Builds vocabulary, KenLM's binary and the scorer from text or from an existing n-gram model."""

import contextlib
import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from absl import logging

from speech.decoding import scorer
from speech.language_model import arpa, embedded, kenlm_programs
from speech.language_model import sentences as lm_text
from speech.language_model.kenlm_programs import Estimation, Packing, Programs
from speech.language_model.text_files import TextFile
from speech.system import lock, storage
from speech.text.transcripts import TranscriptRules
from utils import Alphabet, UserError, is_number

BINARY_FILE = "lm.binary"
ARPA_FILE = "lm.arpa"  # kept if there is no binary

# Number of characters outside the alphabet that the report names.
NAMED_CHARACTERS = 8


@dataclass(frozen=True)
class Target:
    """The alphabet, the vocabulary and the files of a language model."""

    output_dir: str
    package: str  # path of the scorer file; empty: none
    alphabet: Alphabet
    characters: bool  # tokens are characters instead of words
    rules: TranscriptRules  # normalise the text before it is written in the alphabet
    top_k: int  # maximum size of the vocabulary
    alpha: float  # default weights of the scorer
    beta: float

    @property
    def vocabulary_file(self) -> str:
        return f"vocab-{self.top_k}.txt"


@dataclass(frozen=True)
class TextCounts:
    """The counts of a text."""

    sentences: int
    left_out: int | None  # sentences that overlap excluded transcripts; None: nothing is excluded
    words: int
    distinct: int
    covered: float  # share of the words that are in the vocabulary
    outside: dict[str, int]  # character outside the alphabet -> count, the most frequent first


@dataclass(frozen=True)
class Built:
    """A finished language model and its statistics."""

    text: TextCounts | None  # None: built from an existing model
    tokens: str  # words or characters
    vocabulary: int
    ngrams: list[int]  # of each order
    files: dict[str, int]  # path -> bytes
    seconds: float
    estimator: str | None  # the program that estimated it; None: none was run
    estimator_bytes: int  # maximum memory of the program

    def lines(self) -> list[str]:
        """Returns a report."""
        report = [] if self.text is None else self._text_lines(self.text)
        counts = ", ".join(f"{count:,}" for count in self.ngrams)
        report.append(f"n-grams of order 1 to {len(self.ngrams)}: {counts}")
        report += [f"{path}: {size / 1e6:,.1f} MB" for path, size in self.files.items()]
        memory = f", {self.estimator} took {self.estimator_bytes / 1e6:,.0f} MB of memory at most"
        report.append(f"{self.seconds:.1f} s{memory if self.estimator else ''}")
        return report

    def _text_lines(self, text: TextCounts) -> list[str]:
        report = []
        if text.outside:
            most = list(text.outside.items())[:NAMED_CHARACTERS]
            named = ", ".join(f"{character} {count:,}" for character, count in most)
            report.append(
                f"{sum(text.outside.values()):,} characters outside the alphabet separated words, "
                f"most often {named}"
            )
        if text.left_out is not None:
            report.append(
                f"{text.left_out:,} sentences were left out because they overlap the excluded "
                "transcripts"
            )
        report.append(
            f"{text.sentences:,} sentences, {text.words:,} {self.tokens}, {text.distinct:,} "
            f"distinct; the vocabulary has {self.vocabulary:,}, which cover {text.covered:.2%}"
        )
        return report


def parse_prune(text: str, order: int) -> tuple[int, ...]:
    """Parses Estimation.prune in DeepSpeech's notation, 0|0|1.

    The last number applies to all higher orders.

    Raises:
        UserError: it isn't in this notation.
    """
    wrong = f"--arpa_prune={text} is not a list of thresholds"
    example = 'as in "0|0|1", which leaves out n-grams of order 3 and more that occur once.'
    parts = [part.strip() for part in text.split("|")]
    if not all(map(is_number, parts)):
        raise UserError(f"{wrong}: give whole numbers, {example}")
    numbers = [int(part) for part in parts]
    if len(numbers) > order:
        raise UserError(
            f"{wrong} for --arpa_order={order}: it has {len(numbers)}, give at most {order}."
        )
    if numbers[0] != 0:
        raise UserError(f"{wrong}: the first must be 0; limit the words with --top_k.")
    if numbers != sorted(numbers):
        raise UserError(f"{wrong}: give rising numbers, {example}")
    return tuple(numbers + numbers[-1:] * (order - len(numbers)))


def build(
    text: Sequence[TextFile],
    excluded: Sequence[TextFile],
    estimation: Estimation,
    packing: Packing,
    programs: Programs | None,
    target: Target,
) -> Built:
    """Estimates a language model from text.

    Args:
        excluded: transcripts to exclude, such as those of the test set.
        programs: KenLM's; None: the embedded estimator.

    Raises:
        UserError: a file can't be read or written, the text has no words or too few of them, or a
            program fails.
    """
    started = time.monotonic()
    normaliser = lm_text.Normaliser(target.alphabet, target.characters, target.rules)
    if programs is None:
        embedded.check(estimation)
    with _workspace(target) as folder:
        prepared_path, arpa_path = os.path.join(folder, "text"), os.path.join(folder, ARPA_FILE)
        prepared = lm_text.prepare(
            text,
            normaliser,
            lm_text.read_excluded(excluded, normaliser),
            prepared_path,
            embedded.MOST_TOKENS if programs is None else None,
        )
        words = [word for word, _ in prepared.occurrences.most_common(target.top_k)]
        vocabulary = _write_vocabulary(folder, words, target)
        limit = vocabulary if len(words) < len(prepared.occurrences) else None
        logging.info("Estimating a model of %s tokens ...", f"{prepared.tokens:,}")
        if programs is None:
            embedded.estimate(prepared_path, arpa_path, estimation, limit)
        else:
            kenlm_programs.estimate(
                programs, prepared_path, prepared.tokens, arpa_path, estimation, limit
            )
        os.remove(prepared_path)  # before the next large file
        counts = TextCounts(
            prepared.sentences,
            prepared.left_out if excluded else None,
            prepared.tokens,
            len(prepared.occurrences),
            sum(prepared.occurrences[word] for word in words) / prepared.tokens,
            dict(normaliser.outside.most_common()),
        )
        return _finish(folder, words, counts, packing, programs, target, started)


def package(path: str, packing: Packing, programs: Programs | None, target: Target) -> Built:
    """Builds the same files from an existing n-gram model.

    Writes its words in the alphabet. Drops n-grams with other words, or with words that aren't
    among the `top_k` most probable ones.

    Args:
        path: of the ARPA file, plain or gzipped.

    Raises:
        UserError: it can't be read, none of its words can be written in the alphabet, or a file
            can't be written.
    """
    started = time.monotonic()
    normaliser = lm_text.Normaliser(target.alphabet, target.characters)
    known = sorted(arpa.unigrams(path), key=lambda each: -each[1])
    names = _names([word for word, _ in known], normaliser, target.top_k)
    if not names:
        raise UserError(
            f"--input_arpa={path} has no word in the characters of the alphabet; its first is "
            f"{known[0][0]!r}: give the right --alphabet, or --characters for a character-based "
            "model."
        )
    logging.info("%s: %d of %d words are taken", path, len(names), len(known))
    with _workspace(target) as folder:
        arpa.rewrite(path, os.path.join(folder, ARPA_FILE), names)
        words = list(names.values())
        _write_vocabulary(folder, words, target)
        return _finish(folder, words, None, packing, programs, target, started)


def convert(path: str, target: Target, alpha: float | None, beta: float | None) -> list[str]:
    """Converts a scorer of DeepSpeech into one of this program.

    Args:
        target: of which the path of the scorer and the alphabet count.
        alpha: weight of the language model; None: the scorer's.
        beta: bonus of a word; None: the scorer's.

    Returns:
        lines about the result.

    Raises:
        UserError: it can't be read, is of another alphabet, or the new one can't be written.
    """
    if not target.package:
        raise UserError("--package= names no file: --input_scorer writes a scorer, give its path.")
    found = scorer.read_scorer(path, target.alphabet)
    storage.make_folder(os.path.dirname(target.package))
    converted = replace(
        found,
        path=target.package,
        alpha=found.alpha if alpha is None else alpha,
        beta=found.beta if beta is None else beta,
    )
    scorer.save_scorer(converted)
    return [
        f"{found.order}-grams: {len(found.ngrams) - 2:,}",
        f"vocabulary: {found.words:,} {'characters' if found.characters else 'words'}",
        f"{target.package}: {os.path.getsize(target.package) / 1e6:.1f} MB, alpha "
        f"{converted.alpha:g}, beta {converted.beta:g}",
    ]


def _names(words: list[str], normaliser: lm_text.Normaliser, most: int) -> dict[str, str]:
    """Returns word -> its unique form in the alphabet."""
    written = {word: normaliser.normalise_token(word) for word in words}
    # A word that stays the same has priority over one that would become the same.
    taken = {word for word, name in written.items() if word == name}
    names: dict[str, str] = {}
    for word, name in written.items():
        if name is None or (word != name and name in taken):
            continue
        taken.add(name)
        names[word] = name
        if len(names) == most:
            break
    return names


@contextlib.contextmanager
def _workspace(target: Target) -> Iterator[str]:
    """Locks output_dir and makes a folder for incomplete files in it."""
    for folder in (target.output_dir, os.path.dirname(target.package)):
        storage.make_folder(folder or ".")
    names = (ARPA_FILE, BINARY_FILE, target.vocabulary_file)
    if target.package in [os.path.join(target.output_dir, name) for name in names]:
        raise UserError(
            f"--package={target.package} is what another file is called: choose another name."
        )
    if os.path.isdir(target.package):
        raise UserError(f"--package={target.package} is a folder: add the name of the scorer file.")
    folder = os.path.join(target.output_dir, ".build_lm.partial")
    with lock.exclusive(f"{folder}.lock", "this language model", "--output_dir"):
        storage.remove_folder(folder)  # left by a killed run
        storage.make_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write_vocabulary(folder: str, words: list[str], target: Target) -> str:
    path = os.path.join(folder, target.vocabulary_file)
    storage.write_text(path, "".join(f"{word}\n" for word in words))
    return path


def _finish(
    folder: str,
    words: list[str],
    counts: TextCounts | None,
    packing: Packing,
    programs: Programs | None,
    target: Target,
    started: float,
) -> Built:
    """Packs the model in the workspace and moves the files to their final names."""
    arpa_path = os.path.join(folder, ARPA_FILE)
    ngrams = arpa.ngram_counts(arpa_path)
    kept = [ARPA_FILE, target.vocabulary_file]
    if programs is not None:
        logging.info("Packing %s n-grams ...", f"{sum(ngrams):,}")
        binary_path = os.path.join(folder, BINARY_FILE)
        kenlm_programs.pack(programs, arpa_path, binary_path, packing)
        kept[0] = BINARY_FILE
    if target.package:
        scorer.write_scorer(
            target.package,
            arpa_path,
            [scorer.SPACE if word == scorer.SPACE_WORD else word for word in words],
            target.alphabet,
            target.alpha,
            target.beta,
            target.characters,
        )
    paths = [os.path.join(target.output_dir, name) for name in kept]
    try:
        for path in paths:
            os.replace(os.path.join(folder, os.path.basename(path)), path)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}. Remove it, or choose another folder with "
            "--output_dir."
        ) from None
    # The other file, if there is one, belongs to an earlier model.
    storage.remove(
        os.path.join(target.output_dir, ARPA_FILE if kept[0] == BINARY_FILE else BINARY_FILE)
    )
    paths += [target.package] if target.package else []
    estimator = "KenLM" if programs else "the embedded estimator" if counts else None
    return Built(
        counts,
        "characters" if target.characters else "words",
        len(words),
        ngrams,
        {path: os.path.getsize(path) for path in paths},
        time.monotonic() - started,
        estimator,
        # Includes the memory of this process at the time of the fork.
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    )
