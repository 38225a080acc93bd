"""Counts the characters of a corpus, finds suspicious ones and those missing from an alphabet;
reads and writes alphabet files."""

import contextlib
import csv
import io
import itertools
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from tabulate import tabulate

from speech.system import storage
from speech.text import transcripts
from speech.text.characters import (
    code_point,
    display_form,
    in_utf8,
    isolate_right_to_left,
    script_of,
    unicode_name,
)
from utils import ENGLISH, UTF8_NAME, UTF_8, Alphabet, AlphabetError, UserError, lines_of

SPACE = " "

EXAMPLES = 3  # places that the table names for each character
NAMED_CHARACTERS = 10  # unknown characters in a message; a file has all of them
NAMED_PLACES = 3  # utterances that a message names for each unknown character

# Columns of the file of utterances with unknown characters, which are separated by spaces.
COLUMNS = ("place", "utterance_id", "characters", "code_points", "transcript")
BLOCK = 1000  # rows of that file that are written at once

# Scripts whose marks are usually not written.
POINTED = ("ARABIC", "HEBREW")

# Scripts in which transcripts.JOINERS decide how letters are written.
JOINING = (
    *("ARABIC", "BENGALI", "DEVANAGARI", "GUJARATI", "GURMUKHI", "KANNADA", "MALAYALAM", "ORIYA"),
    *("SINHALA", "TAMIL", "TELUGU"),
)


class Transcribed(Protocol):
    """The properties of `speech.corpora.utterance.Utterance` that this module reads."""

    @property
    def utterance_id(self) -> str: ...

    @property
    def transcript(self) -> str | None: ...

    @property
    def place(self) -> str: ...

    @property
    def where(self) -> str: ...


@dataclass(frozen=True)
class CharacterCount:
    """How often a character occurs."""

    character: str
    occurrences: int
    utterances: int
    examples: tuple[str, ...]  # places of the first utterances that contain it


# --- Counting -------------------------------------------------------------------------------------


@dataclass
class _Tally:
    occurrences: int = 0
    utterances: int = 0
    examples: list[str] = field(default_factory=list)


def count_characters(utterances: Iterable[Transcribed]) -> list[CharacterCount]:
    """Counts the characters of all transcripts in Unicode's composed form (NFC).

    Returns:
        the counts, sorted by code point.
    """
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    for utterance in utterances:
        found = Counter(unicodedata.normalize("NFC", utterance.transcript or ""))
        for character, occurrences in found.items():
            tally = tallies[character]
            tally.occurrences += occurrences
            tally.utterances += 1
            if len(tally.examples) < EXAMPLES:
                tally.examples.append(utterance.where)
    return [
        CharacterCount(character, tally.occurrences, tally.utterances, tuple(tally.examples))
        for character, tally in sorted(tallies.items())
    ]


# --- Unknown characters ---------------------------------------------------------------------------


@dataclass(frozen=True)
class UnknownCharacter:
    """A character that is missing from an alphabet."""

    character: str
    utterances: int  # number of utterances that contain it
    places: tuple[str, ...]  # of the first of them, NAMED_PLACES at most

    def line(self) -> str:
        """Returns its name, its number of utterances and the places of the first ones."""
        more = self.utterances - len(self.places)
        places = ", ".join(map(isolate_right_to_left, self.places))
        places += f", ... and {more:,} more" if more else ""
        count = f"{self.utterances:,} utterance{'' if self.utterances == 1 else 's'}"
        return (
            f"{isolate_right_to_left(display_form(self.character))} "
            f"({code_point(self.character)}, {unicode_name(self.character)}): {count}: {places}"
        )


@dataclass(frozen=True)
class Unknown:
    """The characters of a corpus that are missing from an alphabet."""

    characters: tuple[UnknownCharacter, ...]  # sorted by number of utterances, highest first
    utterances: int  # number of utterances with an unknown character
    transcripts: int  # number of utterances with a transcript
    path: str  # of the file that lists all these utterances

    @property
    def everything(self) -> bool:
        """Whether the alphabet can write no transcript at all."""
        return self.utterances == self.transcripts

    def text(self) -> str:
        """Returns a line for each of the most frequent characters and a summary line."""
        lines = [each.line() for each in self.characters[:NAMED_CHARACTERS]]
        if more := len(self.characters) - len(lines):
            lines.append(f"and {more:,} characters more")
        whole = f"{self.utterances:,} of {self.transcripts:,} utterances with a transcript"
        return "\n".join(f"  {line}" for line in [*lines, f"{whole} have them: {self.path}"])


def report_unknown(
    utterances: Iterable[Transcribed], alphabet: Alphabet, path: str
) -> Unknown | None:
    """Writes every utterance with unknown characters to a CSV file with the columns COLUMNS.

    Compares characters in Unicode's composed form (NFC) and keeps at most BLOCK utterances in
    memory.

    Args:
        path: of the file, local or gs://; it isn't created if no character is unknown.

    Returns:
        the unknown characters; None if there are none.

    Raises:
        UserError: the file can't be written.
    """
    counts: Counter[str] = Counter()
    places: defaultdict[str, list[str]] = defaultdict(list)
    code_point_of = cache(code_point)
    transcribed = 0

    def rows() -> Iterator[tuple[str, ...]]:
        nonlocal transcribed
        for utterance in utterances:
            if not utterance.transcript:
                continue
            transcribed += 1
            if missing := alphabet.missing(utterance.transcript):
                counts.update(missing)
                for each in missing:
                    if counts[each] <= NAMED_PLACES:
                        places[each].append(utterance.where)
                yield (
                    *(utterance.place, utterance.utterance_id),
                    *(" ".join(missing), " ".join(map(code_point_of, missing))),
                    utterance.transcript,
                )

    written = _write_rows(path, rows())
    if not written:
        return None
    characters = [
        UnknownCharacter(character, number, tuple(places[character]))
        for character, number in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]
    return Unknown(tuple(characters), written, transcribed, path)


def _write_rows(path: str, rows: Iterator[tuple[str, ...]]) -> int:
    """Writes a CSV file with the header COLUMNS unless there are no rows; returns their number."""
    written = 0
    with contextlib.ExitStack() as stack:
        writer: storage.Writer | None = None
        try:
            while block := list(itertools.islice(rows, BLOCK)):
                if writer is None:
                    storage.make_folder(os.path.dirname(path))
                    writer = stack.enter_context(contextlib.closing(storage.open_writer(path)))
                    writer.write(_csv([COLUMNS]))
                writer.write(_csv(block))
                written += len(block)
            if writer is None:
                storage.remove(path)  # of an earlier run with unknown characters
            else:
                writer.commit()
        except OSError as error:
            raise UserError(f"{path} can't be written: {error.strerror}.") from None
    return written


def _csv(rows: Iterable[tuple[str, ...]]) -> bytes:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    return in_utf8(content.getvalue()).encode()


# --- Suspicious characters ------------------------------------------------------------------------


def table(counts: Sequence[CharacterCount], language: str | None = None) -> str:
    """Formats the characters as a table for a terminal, with the reason why one is suspicious.

    Without a language, a last line counts the letters that occur in upper and in lower case.

    Args:
        language: a code, see transcripts.language_of; letters that are missing from one of
            transcripts.LANGUAGES are suspicious.

    Raises:
        UserError: it is not a language code.
    """
    cells = [("", "code", "name", "count", "utterances", "examples", "suspicious")]
    reasons = suspicions(counts, language)
    cells += [
        (
            isolate_right_to_left(display_form(each.character)),
            code_point(each.character),
            unicode_name(each.character),
            f"{each.occurrences:,}",
            f"{each.utterances:,}",
            ", ".join(isolate_right_to_left(os.path.basename(path)) for path in each.examples),
            reasons[each.character],
        )
        for each in counts
    ]
    align = ("left", "left", "left", "right", "right")
    lines = tabulate(cells, tablefmt="plain", colalign=align, disable_numparse=True)
    hint = "" if language else _capitals(counts)
    return "\n".join([lines, *(["", hint] if hint else [])])


def _capitals(counts: Sequence[CharacterCount]) -> str:
    """Returns a warning about letters in upper and lower case; empty if there are none."""
    characters = {each.character for each in counts}
    both = [each for each in sorted(characters) if each != each.lower() in characters]
    if not both:
        return ""
    examples = ", ".join(f"{each} and {each.lower()}" for each in both[:EXAMPLES])
    return (
        f"{len(both):,} letters occur in upper and in lower case ({examples}) and get a label "
        "each. Give --language=CODE, as in pl, to write all of them in lower case."
    )


def suspicions(counts: Sequence[CharacterCount], language: str | None = None) -> dict[str, str]:
    """Returns the reason why each character is suspicious, empty if it isn't.

    Arguments and errors are those of `table`.
    """
    scripts: Counter[str] = Counter()
    for each in counts:
        if unicodedata.category(each.character).startswith("L"):
            scripts[script_of(each.character)] += each.occurrences
    main = max(scripts, key=lambda script: scripts[script], default="")
    ours: tuple[str, ...] = (SPACE, transcripts.APOSTROPHE)
    named = None
    if language is not None and (rules := transcripts.language_of(language)).letters:
        ours, named = transcripts.alphabet_of(language).characters, rules.name
    return {
        each.character: "" if each.character in ours else _suspicion(each.character, main, named)
        for each in counts
    }


def _suspicion(character: str, main: str, language: str | None) -> str:
    """Returns the reason why a character is suspicious.

    Args:
        main: script of most letters of the corpus.
        language: name of a language whose alphabet doesn't contain the character.
    """
    category = unicodedata.category(character)
    if category.startswith("L"):
        if script_of(character) != main:
            return f"{script_of(character).capitalize()} among {main.capitalize()}"
        return f"not {language}" if language else ""
    if category.startswith("M"):
        return "mark" if script_of(character) != main or main in POINTED else ""
    if character in transcripts.JOINERS and main in JOINING:
        return ""
    kinds = {"N": "digit", "S": "symbol", "P": "punctuation", "Z": "unusual space"}
    return kinds.get(category[0], "invisible" if category == "Cf" else "no character")


def sift(
    counts: Sequence[CharacterCount], language: str | None = None
) -> tuple[list[str], list[str]]:
    """Separates the characters for an alphabet from the suspicious ones.

    Returns:
        the characters for the alphabet, and a line about each suspicious one.

    Raises:
        UserError: as `table`, or no letter is left.
    """
    reasons = suspicions(counts, language)
    kept = [each.character for each in counts if not reasons[each.character]]
    if not set(kept) - {SPACE, transcripts.APOSTROPHE}:
        given = f"--language={language} and " if language else ""
        raise UserError(
            "The transcripts contain no letter for an alphabet, only suspicious characters. Check "
            f"{given}that the transcripts are what is spoken."
        )
    left_out = [
        f"left out: {display_form(each.character)} ({code_point(each.character)}, "
        f"{unicode_name(each.character)}) in {each.utterances:,} utterances: "
        f"{reasons[each.character]}"
        for each in counts
        if reasons[each.character]
    ]
    return kept, left_out


# --- The file -------------------------------------------------------------------------------------


def read_alphabet(value: str | None) -> Alphabet:
    """Reads the alphabet that a flag --alphabet names.

    Args:
        value: a file, local or gs://, or UTF8_NAME; empty or None: English.

    Raises:
        UserError: the file can't be read or contains no alphabet.
    """
    if not value:
        return ENGLISH
    if value.lower() == UTF8_NAME:
        return UTF_8
    try:
        content = storage.read_bytes(value)
    except OSError as error:
        raise AlphabetError(
            f"The alphabet {value} can't be read: {error.strerror}. Check the path given by "
            "--alphabet."
        ) from None
    return Alphabet.from_bytes(content, value)


def write_alphabet(path: str, characters: Iterable[str], comments: Sequence[str] = ()) -> Alphabet:
    """Writes an alphabet file: the space first, then the others in order of their code points.

    Leaves an existing file as it is if it has the same characters in the same order.

    Args:
        comments: lines for the beginning of the file, without the #.

    Returns:
        the alphabet that `read_alphabet` reads from the file.

    Raises:
        UserError: the characters are not an alphabet, the file exists with other characters, its
            name is reserved, or it can't be written.
    """
    if path.lower() == UTF8_NAME:
        raise UserError(
            f"--alphabet={path} stands for the bytes of UTF-8, which need no file: name a file, as "
            f"in alphabet.txt or ./{path}."
        )
    alphabet = Alphabet(tuple(sorted(characters, key=lambda each: (each != SPACE, each))))
    for each in alphabet.characters:
        if each in "\n\r" or unicodedata.category(each) == "Cs":
            raise AlphabetError(
                f"{path} can't contain the character {each!r}, which ends a line or is half a "
                "surrogate pair: remove it from the transcripts."
            )
    lines = ["\\#" if each == "#" else each for each in alphabet.characters]
    if storage.exists(path):
        if _lines(storage.read_text(path)) != lines:
            raise UserError(
                f"{path} exists with another alphabet: remove it, or name another file."
            )
        return alphabet
    # A comment comes first: U+FEFF at the start of the file would be read as a byte order mark.
    head = ["One character a line.", *(line for each in comments for line in lines_of(each))]
    text = "".join(f"{line}\n" for line in [*(f"# {line}" for line in head), *lines])
    storage.write_text(path, in_utf8(text))
    return alphabet


def _lines(text: str) -> list[str]:
    """Returns the lines of an alphabet file that are characters."""
    lines = lines_of(text.removeprefix("\ufeff"))
    return [line for line in lines if line and not line.startswith("#")]
