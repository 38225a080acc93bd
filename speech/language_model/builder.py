"""Builds vocabulary, KenLM's binary and the scorer from text or from an existing n-gram model."""

import contextlib
import os
import resource
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from absl import logging

from speech.decoding import scorer
from speech.language_model import arpa, embedded, kenlm_programs
from speech.language_model import sentences as lm_text
from speech.language_model.kenlm_programs import Estimation, Packing, Programs
from speech.language_model.text_files import TextFile, open_text, reason
from speech.system import lock, storage
from speech.text.lexicon import Lexicon
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
    deepspeech_scorer: str = ""  # path of the scorer for DeepSpeech's clients; empty: none
    lexicon: Lexicon | None = None  # makes a scorer of pronunciations

    @property
    def tokens(self) -> str:
        return "characters" if self.characters else "words"

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
    silent: list[str]  # words of the vocabulary that the lexicon doesn't have
    ngrams: list[int]  # of each order
    files: dict[str, int]  # path -> bytes
    seconds: float
    estimator: str | None  # the program that estimated it; None: none was run
    estimator_bytes: int  # maximum memory of the program

    def lines(self) -> list[str]:
        """Returns a report."""
        report = [] if self.text is None else self._text_lines(self.text)
        if self.silent:
            report.append(
                f"{len(self.silent):,} of the vocabulary's {self.vocabulary:,} words have no "
                f"pronunciation in the lexicon and are never written: {format_some(self.silent)}"
            )
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
    if target.deepspeech_scorer:
        _required(programs, target)
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
    if scorer.is_deepspeechs(path):
        raise UserError(
            f"--input_arpa={path} is a binary of KenLM: give it with --lm and its words with "
            "--vocab, or with --input_scorer if it is a scorer of DeepSpeech."
        )
    if target.deepspeech_scorer:
        _required(programs, target)
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


def read_scorer(
    path: str, alphabets: Sequence[Alphabet], alpha: float | None, beta: float | None
) -> scorer.Scorer:
    """Reads a scorer, with the alphabet of several that the words of one of DeepSpeech fit.

    Args:
        alpha: weight of the language model; None: the scorer's.
        beta: bonus of a word; None: the scorer's.

    Raises:
        UserError: it can't be read, or is of another alphabet.
    """
    refusals = []
    for alphabet in alphabets if scorer.is_deepspeechs(path) else alphabets[:1]:
        try:
            found = scorer.read_scorer(path, alphabet)
        except UserError as error:
            refusals.append(str(error))
            continue
        return replace(
            found,
            alpha=found.alpha if alpha is None else alpha,
            beta=found.beta if beta is None else beta,
        )
    hint = " It is given with --alphabet." if len(refusals) > 1 else ""
    raise UserError(f"{refusals[0]}{hint}")


def convert(
    found: scorer.Scorer, packing: Packing, programs: Programs | None, target: Target
) -> list[str]:
    """Converts a scorer of DeepSpeech into one of this program, or one of either into the other.

    Args:
        target: of which the paths of the scorers count.

    Returns:
        lines about the result.

    Raises:
        UserError: the new one can't be written.
    """
    if not target.deepspeech_scorer or scorer.is_deepspeechs(found.path):
        return _save(found, found.path, target)
    with tempfile.TemporaryDirectory() as folder:
        arpa_path, binary_path = (os.path.join(folder, name) for name in (ARPA_FILE, BINARY_FILE))
        arpa.write(found, arpa_path)
        kenlm_programs.pack(_required(programs, target), arpa_path, binary_path, packing)
        return _save(found, binary_path, target)


def package_binary(path: str, vocabulary_path: str, target: Target) -> list[str]:
    """Makes a scorer of KenLM's binary and its words, as DeepSpeech's generate_scorer_package does.

    Words that can't be written in the alphabet are left out.

    Args:
        path: of the binary.
        vocabulary_path: of the words, separated by spaces or lines.

    Returns:
        lines about the result.

    Raises:
        UserError: a file can't be read, they don't fit each other, or the scorer can't be written.
    """
    words = list(dict.fromkeys(_read_vocabulary(vocabulary_path).split()))
    written = [word for word in words if not target.alphabet.missing(word)]
    if target.characters:
        written = [word for word in written if len(word) == 1]
    if not written:
        raise UserError(
            f"--vocab={vocabulary_path} has no {target.tokens} in the characters of the alphabet: "
            "give the right --alphabet, or --characters for a character-based model."
        )
    found, unknown = scorer.from_kenlm(path, written, target.alphabet, target.characters)
    left_out = [*sorted(set(words) - set(written)), *unknown]
    report = _save(replace(found, alpha=target.alpha, beta=target.beta), path, target)
    if left_out:
        report.insert(
            0,
            f"{len(left_out):,} of {len(words):,} words were left out, which the alphabet or the "
            f"language model doesn't have: {format_some(left_out)}",
        )
    return report


def format_some(words: Sequence[str]) -> str:
    """Names the first words of a list."""
    more = " ..." if len(words) > NAMED_CHARACTERS else ""
    return f"{', '.join(words[:NAMED_CHARACTERS])}{more}"


def _read_vocabulary(path: str) -> str:
    try:
        with open_text(path) as file:
            return file.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"--vocab={path} isn't UTF-8 ({error.reason}): save it in UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"--vocab={path} can't be read: {reason(error)}.") from None


def _save(found: scorer.Scorer, binary_path: str, target: Target) -> list[str]:
    """Writes the scorers that are wanted; returns lines about them."""
    wanted = [path for path in (target.package, target.deepspeech_scorer) if path]
    if not wanted:
        raise UserError("--package= names no file: give the path of the scorer.")
    for path in wanted:
        storage.make_folder(os.path.dirname(path))
    if target.package:
        scorer.save_scorer(replace(found, path=target.package))
    if target.deepspeech_scorer:
        scorer.save_deepspeechs(found, binary_path, target.deepspeech_scorer)
    return [
        f"{found.order}-grams: {len(found.ngrams) - 2:,}",
        f"vocabulary: {found.words:,} {'characters' if found.characters else 'words'}",
        *(
            f"{path}: {os.path.getsize(path) / 1e6:.1f} MB, alpha {found.alpha:g}, "
            f"beta {found.beta:g}"
            for path in wanted
        ),
    ]


def _required(programs: Programs | None, target: Target) -> Programs:
    """Returns KenLM's programs, which a scorer for DeepSpeech needs."""
    if programs is None:
        raise UserError(
            f"--deepspeech_scorer={target.deepspeech_scorer} requires KenLM's build_binary: "
            "compile it with make kenlm, or name its folder with --kenlm_bins."
        )
    return programs


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
    names = (ARPA_FILE, BINARY_FILE, target.vocabulary_file)
    taken = [os.path.join(target.output_dir, name) for name in names]
    storage.make_folder(target.output_dir or ".")
    for flag in ("package", "deepspeech_scorer"):
        path = getattr(target, flag)
        storage.make_folder(os.path.dirname(path) or ".")
        if path in taken:
            raise UserError(f"--{flag}={path} is what another file is called: choose another name.")
        if os.path.isdir(path):
            raise UserError(f"--{flag}={path} is a folder: add the name of the scorer file.")
        taken += [path] if path else []
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
    packages = [path for path in (target.package, target.deepspeech_scorer) if path]
    if packages:
        made = scorer.from_arpa(
            target.package,
            arpa_path,
            [scorer.SPACE if word == scorer.SPACE_WORD else word for word in words],
            target.alphabet,
            target.alpha,
            target.beta,
            target.characters,
            target.lexicon,
        )
    if target.package:
        scorer.save_scorer(made)
    if target.deepspeech_scorer:
        scorer.save_deepspeechs(made, os.path.join(folder, BINARY_FILE), target.deepspeech_scorer)
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
    paths += packages
    estimator = "KenLM" if programs else "the embedded estimator" if counts else None
    return Built(
        counts,
        target.tokens,
        len(words),
        [word for word in words if target.lexicon and not target.lexicon.knows(word)],
        ngrams,
        {path: os.path.getsize(path) for path in paths},
        time.monotonic() - started,
        estimator,
        # Includes the memory of this process at the time of the fork.
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    )
