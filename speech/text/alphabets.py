"""The characters of a corpus: which there are, which are suspicious, which an alphabet lacks; and
the alphabet's file."""

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
from speech.text.scripts import script_of
from speech.text.showing import code_point, in_utf8, isolated, place, shown, unicode_name
from utils import ENGLISH, UTF8_NAME, UTF_8, Alphabet, AlphabetError, UserError, lines_of

SPACE = " "

EXAMPLES = 3  # places that are told of each character
NAMED_CHARACTERS = 10  # that the alphabet lacks; all are in a file
NAMED_PLACES = 3  # of utterances with a character that the alphabet lacks

# Of the file of utterances with characters that the alphabet lacks; several have spaces between.
COLUMNS = ("place", "utterance_id", "characters", "code_points", "transcript")
BLOCK = 1000  # of its rows that are written at once

# Scripts whose marks are no part of what is usually written.
POINTED = ("ARABIC", "HEBREW")

# Scripts in which transcripts.JOINERS decide how letters are written.
JOINING = (
    *("ARABIC", "BENGALI", "DEVANAGARI", "GUJARATI", "GURMUKHI", "KANNADA", "MALAYALAM", "ORIYA"),
    *("SINHALA", "TAMIL", "TELUGU"),
)


class Transcribed(Protocol):
    """An utterance of speech.corpora, as far as it matters here.

    Messages name its `showing.place`.
    """

    @property
    def utterance_id(self) -> str: ...

    @property
    def transcript(self) -> str | None: ...


@dataclass(frozen=True)
class CharacterCount:
    """How often a character occurs."""

    character: str
    occurrences: int
    utterances: int
    examples: tuple[str, ...]  # places of the first utterances that have it


# --- Counting -------------------------------------------------------------------------------------


@dataclass
class _Tally:
    occurrences: int = 0
    utterances: int = 0
    examples: list[str] = field(default_factory=list)


def count_characters(utterances: Iterable[Transcribed]) -> list[CharacterCount]:
    """The characters of all transcripts in Unicode's composed form, by their code points.

    Utterances without a transcript have none.
    """
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    for utterance in utterances:
        found = Counter(unicodedata.normalize("NFC", utterance.transcript or ""))
        for character, occurrences in found.items():
            tally = tallies[character]
            tally.occurrences += occurrences
            tally.utterances += 1
            if len(tally.examples) < EXAMPLES:
                tally.examples.append(place(utterance))
    return [
        CharacterCount(character, tally.occurrences, tally.utterances, tuple(tally.examples))
        for character, tally in sorted(tallies.items())
    ]


# --- What an alphabet lacks -----------------------------------------------------------------------


@dataclass(frozen=True)
class UnknownCharacter:
    """A character that an alphabet lacks."""

    character: str
    utterances: int  # that have it
    places: tuple[str, ...]  # of the first of them, NAMED_PLACES at most

    def line(self) -> str:
        """What to tell of it: its name, how many utterances have it, and where the first are."""
        more = self.utterances - len(self.places)
        told = ", ".join(map(isolated, self.places)) + (f", ... and {more:,} more" if more else "")
        count = f"{self.utterances:,} utterance{'' if self.utterances == 1 else 's'}"
        return (
            f"{isolated(shown(self.character))} ({code_point(self.character)}, "
            f"{unicode_name(self.character)}): {count}: {told}"
        )


@dataclass(frozen=True)
class Unknown:
    """What an alphabet lacks of a corpus."""

    characters: tuple[UnknownCharacter, ...]  # the one that most utterances have is first
    utterances: int  # that have any
    transcripts: int  # utterances with a transcript
    path: str  # of the file that has all these utterances

    @property
    def everything(self) -> bool:
        """Whether no transcript is left that the alphabet can write."""
        return self.utterances == self.transcripts

    def text(self) -> str:
        """A line for each of the most frequent characters, and one for utterances and file."""
        lines = [each.line() for each in self.characters[:NAMED_CHARACTERS]]
        if more := len(self.characters) - len(lines):
            lines.append(f"and {more:,} characters more")
        whole = f"{self.utterances:,} of {self.transcripts:,} utterances with a transcript"
        return "\n".join(f"  {line}" for line in [*lines, f"{whole} have them: {self.path}"])


def report_unknown(
    utterances: Iterable[Transcribed], alphabet: Alphabet, path: str
) -> Unknown | None:
    """Writes every utterance with characters that the alphabet lacks to a CSV file, by COLUMNS.

    Characters are compared in Unicode's composed form. Of the utterances no more than a block is
    kept in memory.

    Args:
        path: of the file, local or gs://; it isn't made if nothing is lacking.

    Returns:
        what to tell of them; None if the alphabet lacks nothing.

    Raises:
        UserError: the file can't be written.
    """
    counts: Counter[str] = Counter()
    places: defaultdict[str, list[str]] = defaultdict(list)
    code_point_of = cache(code_point)
    transcribed = 0

    def lacking() -> Iterator[tuple[str, ...]]:
        nonlocal transcribed
        for utterance in utterances:
            if not utterance.transcript:
                continue
            transcribed += 1
            if missing := alphabet.missing(utterance.transcript):
                counts.update(missing)
                for each in missing:
                    if counts[each] <= NAMED_PLACES:
                        places[each].append(place(utterance))
                yield (
                    *(getattr(utterance, "place", ""), utterance.utterance_id),
                    *(" ".join(missing), " ".join(map(code_point_of, missing))),
                    utterance.transcript,
                )

    written = _write_rows(path, lacking())
    if not written:
        return None
    characters = [
        UnknownCharacter(character, number, tuple(places[character]))
        for character, number in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]
    return Unknown(tuple(characters), written, transcribed, path)


def _write_rows(path: str, rows: Iterator[tuple[str, ...]]) -> int:
    """Writes a CSV file with the header COLUMNS, unless there are no rows; returns their number."""
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
                storage.remove(path)  # of an earlier run: nothing is lacking any more
            else:
                writer.commit()
        except OSError as error:
            raise UserError(f"{path} can't be written: {error.strerror}.") from None
    return written


def _csv(rows: Iterable[tuple[str, ...]]) -> bytes:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    return in_utf8(content.getvalue()).encode()


# --- Showing --------------------------------------------------------------------------------------


def table(counts: Sequence[CharacterCount], language: str | None = None) -> str:
    """The characters for a terminal, a line each, with why one is suspicious.

    Without a language, capitals beside small letters are told of in a last line.

    Args:
        language: a code, see transcripts.language_of; letters that one of transcripts.LANGUAGES
            doesn't have are suspicious.

    Raises:
        UserError: it is no language's code.
    """
    cells = [("", "code", "name", "count", "utterances", "examples", "suspicious")]
    reasons = suspicions(counts, language)
    cells += [
        (
            isolated(shown(each.character)),
            code_point(each.character),
            unicode_name(each.character),
            f"{each.occurrences:,}",
            f"{each.utterances:,}",
            ", ".join(isolated(os.path.basename(example)) for example in each.examples),
            reasons[each.character],
        )
        for each in counts
    ]
    align = ("left", "left", "left", "right", "right")
    lines = tabulate(cells, tablefmt="plain", colalign=align, disable_numparse=True)
    hint = "" if language else _capitals(counts)
    return "\n".join([lines, *(["", hint] if hint else [])])


def _capitals(counts: Sequence[CharacterCount]) -> str:
    """What to tell of letters that are there as capitals and small; empty if there are none."""
    characters = {each.character for each in counts}
    both = [each for each in sorted(characters) if each != each.lower() in characters]
    if not both:
        return ""
    examples = ", ".join(f"{each} and {each.lower()}" for each in both[:EXAMPLES])
    return (
        f"{len(both):,} letters are there as capitals and small ({examples}), with a label each. "
        "--language=CODE, as in pl, writes all of them small."
    )


def suspicions(counts: Sequence[CharacterCount], language: str | None = None) -> dict[str, str]:
    """Why each character is suspicious; empty if it isn't. Arguments and errors are `table`'s."""
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
    """main: the corpus's script; language: the name of one whose alphabet lacks the character."""
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
    """The characters that an alphabet should have, and a line about each suspicious one.

    Raises:
        UserError: as `table`, or no letter is left.
    """
    reasons = suspicions(counts, language)
    kept = [each.character for each in counts if not reasons[each.character]]
    if not set(kept) - {SPACE, transcripts.APOSTROPHE}:
        given = f"--language={language} and " if language else ""
        raise UserError(
            "There is no letter to make an alphabet of: the transcripts have none that isn't "
            f"suspicious. Check {given}that the corpus's transcripts are what is said."
        )
    left_out = [
        f"left out: {shown(each.character)} ({code_point(each.character)}, "
        f"{unicode_name(each.character)}) in {each.utterances:,} utterances: "
        f"{reasons[each.character]}"
        for each in counts
        if reasons[each.character]
    ]
    return kept, left_out


# --- The file -------------------------------------------------------------------------------------


def read_alphabet(value: str | None) -> Alphabet:
    """The alphabet that a flag --alphabet names.

    Args:
        value: a file, local or gs://, or UTF8_NAME; empty or None: English.

    Raises:
        UserError: the file can't be read, or holds no alphabet.
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
    """Writes an alphabet's file: the space first, then the others by their code points.

    A file that is there is left as it is if it has the same characters in the same order.

    Args:
        comments: lines for its beginning, without the #.

    Returns:
        the alphabet, which `read_alphabet` reads from the file.

    Raises:
        UserError: the characters are no alphabet, the file is there with others, its name means
            something else, or it can't be written.
    """
    if path.lower() == UTF8_NAME:
        raise UserError(
            f"--alphabet={path} means the bytes of UTF-8, for which no file is made: name a file, "
            f"as in alphabet.txt or ./{path}."
        )
    alphabet = Alphabet(tuple(sorted(characters, key=lambda each: (each != SPACE, each))))
    for each in alphabet.characters:
        if each in "\n\r" or unicodedata.category(each) == "Cs":
            raise AlphabetError(
                f"{path} can't hold the character {each!r}, which ends a line or is half a "
                "surrogate pair: remove it from the transcripts."
            )
    lines = ["\\#" if each == "#" else each for each in alphabet.characters]
    if storage.exists(path):
        if _lines(storage.read_text(path)) != lines:
            raise UserError(
                f"{path} is there with another alphabet: remove it, or name another file."
            )
        return alphabet
    # A comment comes first in any case: a byte order mark there would be taken for one.
    head = ["One character a line.", *(line for each in comments for line in lines_of(each))]
    text = "".join(f"{line}\n" for line in [*(f"# {line}" for line in head), *lines])
    storage.write_text(path, in_utf8(text))
    return alphabet


def _lines(text: str) -> list[str]:
    """The characters' lines in an alphabet's file."""
    lines = lines_of(text.removeprefix("\ufeff"))
    return [line for line in lines if line and not line.startswith("#")]
