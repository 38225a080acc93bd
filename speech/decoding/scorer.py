"""Reads and writes scorer files: a language model with its vocabulary, alphabet and weights.

One file, so that its parts can't be mixed up. It is read into memory as a whole, and its arrays are
used in place. It isn't memory-mapped: overwriting a mapped file would kill the processes that map
it.

    16 bytes    MAGIC
    48 bytes    version and length of the JSON, two little-endian int64; alpha and beta, two
                float64; the CRC-32C of all after these 64 bytes, a uint32; 8 zero bytes;
                the CRC-32C of the 60 bytes so far, a uint32, 0 in older files
    JSON        the alphabet, the order, and the lengths of the arrays
    arrays      the words' letters and the n-grams, see LETTERS and ngrams.DTYPE

A file that the program xz has compressed is read as well.
"""

import contextlib
import json
import lzma
import mmap
import os
import shutil
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from speech.decoding import deepspeech_scorer, kenlm_binary, ngrams, tries
from speech.decoding.ngrams import NGrams
from speech.decoding.tries import NONE, ROOT, Trie
from speech.system import mistaken_paths, storage, typed_json
from speech.text.lexicon import Lexicon
from utils import UTF_8, Alphabet, AlphabetError, UserError

MAGIC = b"deep speech lm\r\n"
XZ_MAGIC = b"\xfd7zXZ\0"
VERSION = 1

# Version, length of the JSON, alpha, beta, checksum of what follows, checksum of these and MAGIC.
HEADER = struct.Struct("<qqddI8xI")
CHECKSUM = struct.Struct("<I")

# Largest bonus of a word, in nats. Its factor hides every other one.
LARGEST_GAIN = 100

# Penalty of a word outside the vocabulary, in nats: where a scorer has no other one, and so large
# that there is none, as in DeepSpeech's search.
UNKNOWN_PENALTY = 10.0
STRICT_PENALTY = 1000.0

# Arrays begin at multiples of it, as is fast in memory.
ALIGNMENT = 64

# The words' trie; word: its number in the n-grams, or NONE where no word ends; boost: a hot word's
# bonus in nats, 0 in the file.
LETTERS = np.dtype([*tries.FIELDS, ("word", "<i4"), ("boost", "<f4")])

SPACE = " "
MOST_HOMOPHONES = 64  # words of one pronunciation
# The space in a language model of characters, since ARPA files separate words by spaces.
SPACE_WORD = "<space>"


@dataclass(frozen=True)
class Scorer:
    """A language model over the words, or characters, of an alphabet."""

    path: str
    alphabet: Alphabet
    alpha: float  # weight of the language model's natural-log probability
    beta: float  # bonus of each word, in nats
    characters: bool  # each character is a word
    order: int
    ngrams: NGrams
    begin: int  # the numbers of <s>, </s> and <unk>
    end: int
    unknown: int
    letters: Trie  # the words as sequences of labels, LETTERS
    unknown_penalty: float = UNKNOWN_PENALTY  # of a word outside the vocabulary, in nats
    # Of a scorer of pronunciations, whose letters are phones: the words by their numbers in the
    # n-grams. Several words of one pronunciation end in nodes of their own: the first one in that
    # of the last phone, the others in its children by labels from first_homophone on. (): words
    # are written in the alphabet.
    texts: tuple[str, ...] = ()

    @property
    def homophones(self) -> int:
        """Number of labels from first_homophone on."""
        last = int(self.letters["label"].max())
        return max(last - first_homophone(self.alphabet) + 1, 0) if self.texts else 0

    def spellings(self) -> list[str]:
        """Returns the words by their numbers in the n-grams; empty: not in the vocabulary."""
        if self.texts:
            return list(self.texts)
        nodes = np.flatnonzero(self.letters["word"] != NONE)
        texts = deepspeech_scorer.texts_of(self.letters, nodes, self.alphabet)
        found = [""] * (int(self.ngrams["first_child"][1]) - 1)
        for number, text in zip(self.letters["word"][nodes], texts, strict=True):
            found[number] = SPACE_WORD if text == SPACE.encode() else text.decode()
        for number, mark in (
            (self.begin, ngrams.BEGIN),
            (self.end, ngrams.END),
            (self.unknown, ngrams.UNKNOWN),
        ):
            found[number] = mark
        return found

    @property
    def words(self) -> int:
        """Number of words in the vocabulary."""
        ends = self.letters["word"][self.letters["word"] != NONE]
        return len(np.unique(ends)) if self.texts else len(ends)


def first_homophone(alphabet: Alphabet) -> int:
    """Returns the first of the labels that tell words of one pronunciation apart."""
    return alphabet.size


def write_scorer(
    path: str,
    arpa_path: str,
    words: Sequence[str],
    alphabet: Alphabet,
    alpha: float,
    beta: float,
    characters: bool,
) -> None:
    """Packs a language model, its vocabulary, alphabet and weights into a file, atomically.

    The arguments and errors are those of from_arpa, and an error if the file can't be written.
    """
    save_scorer(from_arpa(path, arpa_path, words, alphabet, alpha, beta, characters))


def from_arpa(
    path: str,
    arpa_path: str,
    words: Sequence[str],
    alphabet: Alphabet,
    alpha: float,
    beta: float,
    characters: bool,
    lexicon: Lexicon | None = None,
) -> Scorer:
    """Makes a scorer of a language model in ARPA's form, its vocabulary, alphabet and weights.

    Args:
        path: of the scorer, which isn't written.
        arpa_path: of the language model, as plain text.
        words: the vocabulary; the characters of a language model of characters.
        lexicon: makes a scorer of pronunciations, without the words that the lexicon doesn't have;
            None: words are written in the alphabet.

    Raises:
        UserError: the ARPA file can't be read, a word has characters outside the alphabet, an
            alphabet for words has no space, or the lexicon has no word.
    """
    if not characters and SPACE not in alphabet.characters:
        raise UserError(
            "The alphabet has no space to separate words by: add one to it, or make a language "
            "model of characters, with --characters."
        )
    model, order, model_words = ngrams.read_arpa(arpa_path)
    number_of = {word: number for number, word in enumerate(model_words)}
    unknown = number_of[ngrams.UNKNOWN]
    marks = number_of[ngrams.BEGIN], number_of[ngrams.END], unknown
    if lexicon:
        numbers = {word: number_of[word] for word in words if word in number_of}
        letters = _pronunciations(numbers, lexicon)
        texts = tuple(model_words)
        return Scorer(
            *(path, lexicon.alphabet, alpha, beta, characters, order, model, *marks, letters),
            STRICT_PENALTY,
            texts,
        )
    known = [number_of.get(SPACE_WORD if word == SPACE else word, unknown) for word in words]
    letters = _letters(words, alphabet, known)
    return Scorer(path, alphabet, alpha, beta, characters, order, model, *marks, letters)


def save_scorer(scorer: Scorer) -> None:
    """Writes a scorer to its path, atomically.

    Raises:
        UserError: a weight is out of range, or the file can't be written.
    """
    check_weights(scorer.alpha, scorer.beta)
    arrays = (scorer.letters, scorer.ngrams)
    content: dict[str, Any] = {
        "alphabet": scorer.alphabet.to_json(),
        "characters": scorer.characters,
        "order": scorer.order,
        "begin": scorer.begin,
        "end": scorer.end,
        "unknown": scorer.unknown,
        "nodes": [len(each) for each in arrays],
    }
    if scorer.unknown_penalty != UNKNOWN_PENALTY:
        content["unknown_penalty"] = scorer.unknown_penalty
    if scorer.texts:
        content["texts"] = SPACE.join(scorer.texts)
    text = json.dumps(content).encode()
    pieces, position = [memoryview(text)], len(MAGIC) + HEADER.size + len(text)
    for each in arrays:
        padding = bytes(-position % ALIGNMENT)
        pieces += [memoryview(padding), each.view(np.uint8).data]
        position += len(padding) + each.nbytes
    checksum = 0
    for piece in pieces:
        checksum = storage.crc32c(piece, checksum)
    with _replacing(scorer.path) as partial, open(partial, "wb") as file:
        file.write(_head(len(text), scorer.alpha, scorer.beta, checksum))
        file.writelines(pieces)


def _head(length: int, alpha: float, beta: float, checksum: int) -> bytes:
    """Returns the bytes before the JSON; checksum: of all bytes after them."""
    head = (MAGIC + HEADER.pack(VERSION, length, alpha, beta, checksum, 0))[: -CHECKSUM.size]
    return head + CHECKSUM.pack(storage.crc32c(head))


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Yields a temporary path that replaces `path` at the end; after an error nothing changes.

    A program that has the old file open can read on.

    Raises:
        UserError: the file can't be written.
    """
    storage.refuse_device(path)
    partial = storage.partial_path(path)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"The scorer {path} can't be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):  # gone, if it has replaced `path`
            os.remove(partial)


def _letters(words: Sequence[str], alphabet: Alphabet, numbers: Any) -> Trie:
    """Returns the trie of the words' labels; numbers: of the words in the n-grams."""
    labels = tries.padded([alphabet.encode(word) for word in words])
    letters, nodes = tries.build(*labels, LETTERS)
    letters["word"] = NONE
    letters["word"][nodes] = numbers
    return letters


def _pronunciations(numbers: Mapping[str, int], lexicon: Lexicon) -> Trie:
    """Returns the trie of the words' pronunciations.

    Args:
        numbers: of the words in the n-grams.

    Raises:
        UserError: the lexicon has none of the words.
    """
    spoken: defaultdict[str, list[int]] = defaultdict(list)
    for word, number in numbers.items():
        for pronunciation in lexicon.pronunciations.get(word.lower(), ()):
            spoken[pronunciation].append(number)
    if not spoken:
        raise UserError(
            f"The lexicon has none of the {len(numbers):,} words of the vocabulary: give one of "
            "their language."
        )
    first, labels, ends = first_homophone(lexicon.alphabet), [], []
    for pronunciation, same in spoken.items():
        known = lexicon.alphabet.encode(pronunciation)
        for place, number in enumerate(same[:MOST_HOMOPHONES]):
            labels.append([*known, first + place - 1] if place else known)
            ends.append(number)
    letters, nodes = tries.build(*tries.padded(labels), LETTERS)
    letters["word"] = NONE
    letters["word"][nodes] = ends
    return letters


def save_deepspeechs(scorer: Scorer, binary_path: str, path: str) -> None:
    """Writes a scorer as DeepSpeech's clients read it, atomically.

    Args:
        scorer: of which the vocabulary, the alphabet and the weights count.
        binary_path: file that begins with its language model in KenLM's binary form, of type trie.

    Raises:
        UserError: DeepSpeech has no scorers of this kind, or the file can't be written.
    """
    check_weights(scorer.alpha, scorer.beta)
    if scorer.texts:
        raise UserError(
            f"The scorer {scorer.path} is one of pronunciations, which DeepSpeech doesn't have: "
            "make one with build_lm.py without --lexicon."
        )
    try:
        parts = deepspeech_scorer.packed(
            _read(binary_path),
            scorer.letters,
            scorer.alphabet,
            scorer.characters,
            scorer.alpha,
            scorer.beta,
        )
    except ValueError as error:
        raise UserError(f"{path} can't be made of {binary_path}: {error}.") from None
    with _replacing(path) as partial, open(partial, "wb") as file:
        file.writelines(parts)


def from_kenlm(
    path: str, words: Sequence[str], alphabet: Alphabet, characters: bool
) -> tuple[Scorer, list[str]]:
    """Makes a scorer of a binary of KenLM and its words, used strictly as one of DeepSpeech.

    Args:
        path: of the binary, of type trie.
        words: in the characters of the alphabet.
        characters: each word is a character.

    Returns:
        the scorer, with weights of 0, and the words that the binary doesn't have.

    Raises:
        UserError: the file can't be read, or has other words.
    """
    try:
        model = kenlm_binary.read(_read(path))
        spelt = [SPACE_WORD if word == SPACE else word for word in words]
        numbers = model.numbers_of([word.encode() for word in spelt])
        if not deepspeech_scorer.are_known(numbers):
            missing = len(numbers) - np.count_nonzero(numbers)
            raise ValueError(f"it doesn't have {missing:,} of the {len(numbers):,} words")
        known = numbers != kenlm_binary.UNKNOWN
        begin, end = model.numbers_of([ngrams.BEGIN.encode(), ngrams.END.encode()]).tolist()
        kept = [word for word, there in zip(words, known, strict=True) if there]
        scorer = Scorer(
            path,
            alphabet,
            0,
            0,
            characters,
            model.order,
            model.ngrams,
            begin,
            end,
            kenlm_binary.UNKNOWN,
            _letters(kept, alphabet, numbers[known]),
            STRICT_PENALTY,
        )
        _check(scorer)
    except ValueError as error:
        raise UserError(
            f"The language model {path} can't be used: {error}. Give a binary of the type trie "
            "and the words that it was made with; an ARPA file is given with --input_arpa."
        ) from None
    return scorer, [word for word, there in zip(words, known, strict=True) if not there]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None


def read_scorer(path: str, alphabet: Alphabet | None = None) -> Scorer:
    """Reads a scorer file, one of build_lm.py or of DeepSpeech, into memory.

    Args:
        alphabet: of the model, which DeepSpeech's files need, as they have none.

    Raises:
        UserError: it doesn't exist, is no scorer, is cut off, or has a newer version.
    """
    if not path:
        raise UserError("The scorer's path is empty: name a file that build_lm.py made.")
    if storage.in_bucket(path):
        raise UserError(
            f"The scorer {path} is in a bucket, but scorers are read from a disk: copy it to this "
            "machine."
        )
    if is_deepspeechs(path):
        return _read_deepspeechs(path, alphabet)
    head, start, rest = _read_file(path)
    try:
        if head.own_checksum and head.own_checksum != storage.crc32c(start[: -CHECKSUM.size]):
            raise ValueError("the checksum of its head is wrong")
        if not _are_weights(head.alpha, head.beta):
            raise ValueError(f"its alpha is {head.alpha}, its beta {head.beta}")
        content = typed_json.read(
            _Content, typed_json.parse_object(rest[: max(0, head.json_length)]), "its JSON"
        )
        (letters_at, model_at), end = _places(content.nodes, len(start) + head.json_length)
        if len(start) + len(rest) < end:
            raise _cut_off(path)
        if storage.crc32c(memoryview(rest)[: end - len(start)]) != head.checksum:
            raise ValueError("its checksum is wrong")
        letters = np.frombuffer(rest, LETTERS, content.nodes[0], letters_at - len(start))
        model = np.frombuffer(rest, ngrams.DTYPE, content.nodes[1], model_at - len(start))
        scorer = Scorer(
            path,
            content.alphabet,
            head.alpha,
            head.beta,
            content.characters,
            content.order,
            model,
            content.begin,
            content.end,
            content.unknown,
            letters,
            content.unknown_penalty,
            tuple(content.texts.split(SPACE)) if content.texts else (),
        )
        _check(scorer)
    except (ValueError, AlphabetError) as error:
        raise UserError(
            f"The scorer {path} is damaged ({error}): copy it again, or make it again with "
            "build_lm.py."
        ) from None
    return scorer


def is_deepspeechs(path: str) -> bool:
    """Returns whether a file begins as DeepSpeech's scorers do; False if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(kenlm_binary.MAGIC)) == kenlm_binary.MAGIC
    except OSError:
        return False


def _read_deepspeechs(path: str, alphabet: Alphabet | None) -> Scorer:
    """Reads a scorer of DeepSpeech, whose words are the only ones that its search writes."""
    if alphabet is None:
        raise UserError(
            f"{path} is a scorer of DeepSpeech, which has no alphabet: convert it with python "
            f"build_lm.py --input_scorer={path} --alphabet=alphabet.txt."
        )
    with _deepspeechs_errors_explained(path):
        with open(path, "rb") as file:
            found = deepspeech_scorer.read(file.read(), alphabet, LETTERS)
        scorer = Scorer(
            path,
            alphabet,
            found.alpha,
            found.beta,
            found.characters,
            found.model.order,
            found.model.ngrams,
            found.begin,
            found.end,
            kenlm_binary.UNKNOWN,
            found.letters,
            STRICT_PENALTY,
        )
        if not _are_weights(scorer.alpha, scorer.beta):
            raise ValueError(f"its alpha is {scorer.alpha}, its beta {scorer.beta}")
        _check(scorer)
    return scorer


@contextlib.contextmanager
def _deepspeechs_errors_explained(path: str) -> Iterator[None]:
    """Turns the errors of reading a scorer of DeepSpeech into a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"The scorer {path} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(
            f"The scorer {path} can't be used: {error}. Copy it again, or give the alphabet that "
            "it was made for."
        ) from None


class _Head(NamedTuple):
    """The numbers before a scorer's JSON, HEADER."""

    version: int
    json_length: int
    alpha: float
    beta: float
    checksum: int  # of all after the head
    own_checksum: int  # of the head; 0: an older file, without


def _read_file(path: str) -> tuple[_Head, bytes, bytes]:
    """Reads a scorer file: its head's numbers, its head, and the rest."""
    try:
        with _open(path) as file:
            start = file.read(len(MAGIC) + HEADER.size)
            if not start.startswith(MAGIC):
                raise UserError(
                    mistaken_paths.explain_scorer(path)
                    or f"{path} is no scorer: make one with build_lm.py, or give one of DeepSpeech."
                )
            if len(start) < len(MAGIC) + HEADER.size:
                raise _cut_off(path)
            head = _Head(*HEADER.unpack(start[len(MAGIC) :]))
            if head.version != VERSION:
                raise UserError(
                    f"The scorer {path} has version {head.version}, and only version {VERSION} can "
                    "be read here: make it again with build_lm.py, or update this program."
                )
            rest = file.read()
    except OSError as error:
        raise UserError(f"The scorer {path} can't be read: {error.strerror}.") from None
    except (lzma.LZMAError, EOFError):
        raise _cut_off(path) from None
    if len(rest) < head.json_length:
        raise _cut_off(path)
    return head, start, rest


def is_scorer(path: str) -> bool:
    """Returns whether a file begins as this program's scorers do; False if it can't be read."""
    try:
        with _open(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, EOFError, lzma.LZMAError):
        return False


def require_uncompressed(path: str) -> None:
    """Raises a UserError if new weights can't be written into a scorer because it is compressed."""
    if _is_compressed(path):
        raise UserError(
            f"The scorer {path} is compressed, and no weights can be written into it: unpack it "
            "with xz --decompress."
        )


def _open(path: str) -> BinaryIO:
    """Opens a scorer, which may be compressed."""
    return cast(BinaryIO, lzma.open(path)) if _is_compressed(path) else open(path, "rb")


def _is_compressed(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(XZ_MAGIC)) == XZ_MAGIC
    except OSError:
        return False


@dataclass(frozen=True)
class _Content:
    """The fields of a scorer's JSON."""

    alphabet: Alphabet
    characters: bool
    order: int
    begin: int
    end: int
    unknown: int
    nodes: tuple[int, ...]  # records of the letters and of the n-grams
    unknown_penalty: float = UNKNOWN_PENALTY
    texts: str = ""  # of the n-grams' words, separated by spaces


def _check(scorer: Scorer) -> None:
    """Checks the values that the compiled search uses without further checks.

    Raises:
        ValueError: an index is out of its array, or a number is out of range.
    """
    if not scorer.characters and SPACE not in scorer.alphabet.characters:
        raise ValueError("its alphabet has no space")
    if not 1 <= scorer.order <= ngrams.LARGEST_ORDER:
        raise ValueError(f"its order is {scorer.order}")
    words = ngrams.check(scorer.ngrams, scorer.order)
    if max(scorer.begin, scorer.end, scorer.unknown) >= words:
        raise ValueError(f"the numbers of <s>, </s> and <unk> are not below {words}")
    letters = scorer.letters
    if scorer.texts and len(scorer.texts) != words:
        raise ValueError(f"it has {len(scorer.texts)} texts of {words} words")
    labels = scorer.alphabet.blank
    tries.check(letters, labels + 1 + MOST_HOMOPHONES if scorer.texts else labels)
    if letters["word"][ROOT] != NONE or letters["word"][-1] != NONE:
        raise ValueError("the vocabulary has words outside its nodes")
    for start in range(0, len(letters), tries.PIECE):
        piece = letters[start : start + tries.PIECE]
        word = np.ascontiguousarray(piece["word"])
        if word.min() < NONE or word.max() >= words:
            raise ValueError(f"the vocabulary has words whose numbers are not below {words}")
        if piece["boost"].any():
            raise ValueError("the vocabulary has hot words")


def _places(lengths: Sequence[int], position: int) -> tuple[list[int], int]:
    """Returns the positions where the letters and the n-grams begin, and where the file ends."""
    places = []
    for dtype, length in zip((LETTERS, ngrams.DTYPE), lengths, strict=True):
        position += -position % ALIGNMENT
        places.append(position)
        position += dtype.itemsize * length
    return places, position


def _cut_off(path: str) -> UserError:
    return UserError(f"The scorer {path} is cut off: copy it again, or make it again.")


def check_alphabet(
    scorer: Scorer, alphabet: Alphabet, model: str, phones: Alphabet | None = None
) -> None:
    """Checks that a model's alphabet, or that of its phones, is the scorer's.

    Args:
        model: its directory, for messages.
        phones: ModelConfig.phonetic_alphabet.

    Raises:
        UserError: it is another one.
    """
    if scorer.texts:
        if scorer.alphabet == phones:
            return
        what = "writes other phones" if phones else "writes no phones"
        raise UserError(
            f"The scorer {scorer.path} is one of pronunciations, and the model in {model} {what}: "
            "train it with training.py --lexicon and the scorer's lexicon, or take a scorer of "
            "build_lm.py without --lexicon."
        )
    if scorer.alphabet == alphabet:
        return
    ours, theirs = set(alphabet.characters), set(scorer.alphabet.characters)
    if UTF_8 in (scorer.alphabet, alphabet):
        what = f"{str(scorer.alphabet)!r} instead of {str(alphabet)!r}"
    elif ours == theirs:
        what = "the same characters in another order"
    else:
        differences = ((theirs - ours, "more"), (ours - theirs, "less"))
        named = " and ".join(f"{sorted(each)} {word}" for each, word in differences if each)
        what = f"{named} than the model's {len(ours)}"
    raise UserError(
        f"The scorer {scorer.path} is of another alphabet than the model in {model}, with {what}: "
        "make one with build_lm.py --alphabet and the alphabet that the model was trained with."
    )


def read_matching_scorer(
    path: str | None, alphabet: Alphabet, model: str, phones: Alphabet | None = None
) -> Scorer | None:
    """Reads the scorer of a model's alphabet, or of its phones; None without a path.

    Args:
        model: its directory, for messages.
        phones: ModelConfig.phonetic_alphabet.

    Raises:
        UserError: the scorer can't be read, or is of another alphabet.
    """
    if not path:
        return None
    scorer = read_scorer(path, alphabet)
    check_alphabet(scorer, alphabet, model, phones)
    return scorer


def write_weights(path: str, alpha: float, beta: float) -> None:
    """Replaces a scorer file, or the target of a link, by one with other weights.

    One of DeepSpeech stays one.

    Raises:
        UserError: it is no scorer, or can't be written.
    """
    check_weights(alpha, beta)
    if is_deepspeechs(path):
        with (
            _deepspeechs_errors_explained(path),
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            at = deepspeech_scorer.weights_at(data)
        with _replacing(os.path.realpath(path)) as partial:
            shutil.copy(path, partial)
            with open(partial, "r+b") as changed:
                changed.seek(at)
                changed.write(deepspeech_scorer.WEIGHTS.pack(alpha, beta))
        return
    require_uncompressed(path)
    read_scorer(path)
    with _replacing(os.path.realpath(path)) as partial:
        shutil.copy(path, partial)
        with open(partial, "r+b") as changed:
            _, length, _, _, checksum, _ = HEADER.unpack(
                changed.read(len(MAGIC) + HEADER.size)[len(MAGIC) :]
            )
            changed.seek(0)
            changed.write(_head(length, alpha, beta, checksum))


def check_weights(alpha: float, beta: float) -> None:
    """Checks a scorer's weights.

    Raises:
        UserError: they are out of range.
    """
    if not _are_weights(alpha, beta):
        raise UserError(
            f"alpha is {alpha} and beta {beta}: give an alpha from 0 to {LARGEST_GAIN}, and a beta "
            f"from -{LARGEST_GAIN} to {LARGEST_GAIN}."
        )


def _are_weights(alpha: float, beta: float) -> bool:
    return 0 <= alpha <= LARGEST_GAIN and abs(beta) <= LARGEST_GAIN
