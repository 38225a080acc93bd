"""The characters of a corpus: which there are, which are suspicious, and the alphabet's file."""

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from speech import storage, transcripts
from speech.scripts import script_of
from speech.showing import code_point, isolated, place, shown, unicode_name
from utils import Alphabet, AlphabetError, UserError

SPACE = " "

EXAMPLES = 3  # places that are told of each character
NAMED_CHARACTERS = 10  # that the alphabet lacks; all are in a file
NAMED_PLACES = 3  # of utterances with a character that the alphabet lacks

# The header of the rows of `rows`.
ROW_NAMES = ("place", "utterance_id", "character", "code_point", "transcript")

# Scripts whose marks are no part of what is usually written.
POINTED = ("ARABIC", "HEBREW")


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


@dataclass(frozen=True)
class UnknownCharacter:
    """A character that an alphabet lacks, and who has it."""

    character: str
    utterances: tuple[Transcribed, ...]  # in the corpus's order

    def line(self) -> str:
        """What to tell of it: its name, how many utterances have it, and where the first are."""
        places = [isolated(place(each)) for each in self.utterances[:NAMED_PLACES]]
        more = len(self.utterances) - len(places)
        told = ", ".join(places) + (f", ... and {more:,} more" if more else "")
        count = f"{len(self.utterances):,} utterance{'' if len(self.utterances) == 1 else 's'}"
        return (
            f"{isolated(shown(self.character))} ({code_point(self.character)}, "
            f"{unicode_name(self.character)}): {count}: {told}"
        )


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
    tallies: dict[str, _Tally] = {}
    for utterance in utterances:
        found = Counter(unicodedata.normalize("NFC", utterance.transcript or ""))
        for character, occurrences in found.items():
            tally = tallies.setdefault(character, _Tally())
            tally.occurrences += occurrences
            tally.utterances += 1
            if len(tally.examples) < EXAMPLES:
                tally.examples.append(place(utterance))
    return [
        CharacterCount(character, tally.occurrences, tally.utterances, tuple(tally.examples))
        for character, tally in sorted(tallies.items())
    ]


def unknown_characters(
    utterances: Iterable[Transcribed], alphabet: Alphabet
) -> list[UnknownCharacter]:
    """Every character that the alphabet lacks with every utterance that has it.

    The one that most utterances have is first. They are compared in Unicode's composed form.
    """
    lacking: dict[str, list[Transcribed]] = {}
    for utterance in utterances:
        for character in alphabet.missing(utterance.transcript or ""):
            lacking.setdefault(character, []).append(utterance)
    ordered = sorted(lacking.items(), key=lambda each: (-len(each[1]), each[0]))
    return [UnknownCharacter(character, tuple(found)) for character, found in ordered]


def rows(unknown: Sequence[UnknownCharacter]) -> list[tuple[str, ...]]:
    """All of them for a CSV file, by ROW_NAMES; an utterance has a row for each character."""
    return [
        (
            getattr(utterance, "place", ""),
            utterance.utterance_id,
            each.character,
            code_point(each.character),
            utterance.transcript or "",
        )
        for each in unknown
        for utterance in each.utterances
    ]


def report_unknown(unknown: Sequence[UnknownCharacter], path: str) -> str:
    """Writes every utterance that has a character which the alphabet lacks to a CSV file.

    Returns:
        what to tell of them: a line a character, of the most frequent ones, and the file's name.

    Raises:
        UserError: the file can't be written.
    """
    content = io.StringIO()
    csv.writer(content).writerows([ROW_NAMES, *rows(unknown)])
    storage.make_folder(os.path.dirname(path))
    storage.write_text(path, content.getvalue())
    lines = [each.line() for each in unknown[:NAMED_CHARACTERS]]
    if more := len(unknown) - len(lines):
        lines.append(f"and {more:,} characters more")
    return "\n".join([*(f"  {line}" for line in lines), f"  All of them: {path}"])


# --- Showing --------------------------------------------------------------------------------------


def table(counts: Sequence[CharacterCount], language: str | None = None) -> str:
    """The characters for a terminal, a line each, with why one is suspicious.

    Args:
        language: one of transcripts.LANGUAGES; letters that it doesn't have are suspicious.

    Raises:
        UserError: the language has no rules.
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
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            _padded(cell, width, right=column in (3, 4))
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def suspicions(counts: Sequence[CharacterCount], language: str | None = None) -> dict[str, str]:
    """Why each character is suspicious; empty if it isn't. Arguments and errors are `table`'s."""
    scripts: Counter[str] = Counter()
    for each in counts:
        if unicodedata.category(each.character).startswith("L"):
            scripts[script_of(each.character)] += each.occurrences
    main = max(scripts, key=lambda script: scripts[script], default="")
    ours: tuple[str, ...] = (SPACE, transcripts.APOSTROPHE)
    if language is not None:
        ours = transcripts.alphabet_of(language).characters
    letters = None if language is None else transcripts.LANGUAGES[language].name
    return {
        each.character: "" if each.character in ours else _suspicion(each.character, main, letters)
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
    kinds = {"N": "digit", "S": "symbol", "P": "punctuation", "Z": "unusual space"}
    return kinds.get(category[0], "invisible" if category == "Cf" else "no character")


def _width(text: str) -> int:
    """Columns in a terminal."""
    return sum(
        0
        if unicodedata.category(each) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def _padded(cell: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(cell))
    return padding + cell if right else cell + padding


def sift(
    counts: Sequence[CharacterCount], language: str | None = None
) -> tuple[list[str], list[str]]:
    """The characters that an alphabet should have, and a line about each suspicious one.

    Raises:
        UserError: as `table`, or no character is left.
    """
    reasons = suspicions(counts, language)
    kept = [each.character for each in counts if not reasons[each.character]]
    if not kept:
        raise UserError(
            "There is no character to make an alphabet of: the transcripts have none that isn't "
            "suspicious."
        )
    left_out = [
        f"left out: {shown(each.character)} ({code_point(each.character)}, "
        f"{unicode_name(each.character)}) in {each.utterances:,} utterances: "
        f"{reasons[each.character]}"
        for each in counts
        if reasons[each.character]
    ]
    return kept, left_out


# --- Writing --------------------------------------------------------------------------------------


def write_alphabet(path: str, characters: Iterable[str], comments: Sequence[str] = ()) -> Alphabet:
    """Writes an alphabet's file: the space first, then the others by their code points.

    A file that is there is left as it is if it has the same characters in the same order.

    Args:
        comments: lines for its beginning, without the #.

    Returns:
        the alphabet, which Alphabet.from_file reads from the file.

    Raises:
        UserError: the characters are no alphabet, the file is there with others, or it can't be
            written.
    """
    alphabet = Alphabet(tuple(sorted(characters, key=lambda each: (each != SPACE, each))))
    if broken := sorted({"\n", "\r"}.intersection(alphabet.characters)):
        raise AlphabetError(
            f"{path} can't hold the character {broken[0]!r}, which ends a line: remove it from "
            "the transcripts."
        )
    lines = ["\\#" if each == "#" else each for each in alphabet.characters]
    if storage.exists(path):
        if _lines(storage.read_text(path)) != lines:
            raise UserError(
                f"{path} is there with another alphabet: remove it, or name another file."
            )
        return alphabet
    # A comment comes first in any case: a byte order mark there would be taken for one.
    head = ["One character a line.", *(line for each in comments for line in each.splitlines())]
    text = "".join(f"{line}\n" for line in [*(f"# {line}" for line in head), *lines])
    storage.write_text(path, text)
    return alphabet


def _lines(text: str) -> list[str]:
    """The characters' lines in an alphabet's file."""
    lines = (line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]
