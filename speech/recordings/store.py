"""Stores recorded takes: a SQLite database and, beside it, a flac file for each recording.

A file is named by the SHA-256 of its content, and written before the row that names it. A row is
removed before its file. So whenever a process is killed, every row has its file. The database also
lists the files that may be without a row, which are removed when the folder is opened again.
"""

import contextlib
import datetime
import hashlib
import os
import secrets
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from speech.system import storage
from speech.system.lock import exclusive
from utils import UserError

DATABASE, AUDIO, SUFFIX = "recordings.sqlite", "audio", ".flac"
_LOCK = ".recordings.lock"

# Most seconds that a writer waits for a reader in another process.
_WAIT_SECONDS = 2.0

# Version of the tables, in the database's user_version.
_VERSION = 1
_TABLES = """
CREATE TABLE consents (consent_id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE speakers (
    speaker_id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    consent_id INTEGER NOT NULL REFERENCES consents,
    consented_at TEXT NOT NULL
);
CREATE TABLE prompts (
    prompt_id TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    position INTEGER  -- NULL: no longer offered
);
CREATE TABLE takes (
    take_id TEXT PRIMARY KEY,
    speaker_id INTEGER NOT NULL REFERENCES speakers ON DELETE CASCADE,
    prompt_id TEXT REFERENCES prompts,  -- NULL: a corrected transcript
    text TEXT NOT NULL,
    audio TEXT NOT NULL,
    seconds REAL NOT NULL,
    problem TEXT NOT NULL,  -- the checks' sentence; empty: none
    usable INTEGER NOT NULL,
    heard TEXT,  -- of a correction: the hypothesis, and what recognised it
    model TEXT,
    scorer TEXT,
    recorded_at TEXT NOT NULL,
    UNIQUE (speaker_id, prompt_id)
);
CREATE INDEX takes_of_audio ON takes (audio);
CREATE TABLE doubtful_files (audio TEXT PRIMARY KEY);  -- being written, or to be removed
"""


class DatabaseGoneError(UserError):
    """The database was deleted or replaced while it is open."""

    def __init__(self) -> None:
        super().__init__(  # clients read it as well: no path
            f"{DATABASE} in the folder of --recordings was deleted or replaced while the server "
            "runs, so nothing can be stored: move it back, or restart the server."
        )


@dataclass(frozen=True)
class Prompt:
    """A sentence to read."""

    prompt_id: str
    text: str


@dataclass(frozen=True)
class Check:
    """The result of a take's checks."""

    problem: str = ""  # what is wrong and what to do; empty: nothing
    usable: bool = True


@dataclass(frozen=True)
class Correction:
    """A transcript that a person corrected."""

    text: str
    heard: str  # the hypothesis
    model: str
    scorer: str  # empty: none


@dataclass(frozen=True)
class Speaker:
    """A person who records."""

    speaker_id: int
    name: str
    consent: str  # the text that the person agreed to


@dataclass(frozen=True)
class Take:
    """A recording of a sentence."""

    take_id: str
    speaker_id: int
    text: str
    audio: str  # name of its file
    seconds: float
    check: Check
    prompt_id: str | None  # None: a corrected transcript


@dataclass(frozen=True)
class OfferedPrompt:
    """A prompt as a speaker sees it."""

    prompt: Prompt
    take: Take | None  # the speaker's own; None: not recorded
    others: int  # usable takes of other speakers


class RecordingStore:
    """A folder of recordings. Its methods may be called by any thread."""

    def __init__(self, folder: str) -> None:
        """Opens a folder, which is made if it is missing.

        Raises:
            UserError: it can't be written, another server has opened it, or its database is
                damaged.
        """
        if storage.in_bucket(folder):
            raise UserError(
                f"--recordings={folder} is in a bucket, where no database can be: name a local "
                "folder."
            )
        storage.make_folder(os.path.join(folder, AUDIO))
        self.folder = folder
        self._lock = threading.RLock()
        with contextlib.ExitStack() as opened:
            opened.enter_context(
                exclusive(os.path.join(folder, _LOCK), "these recordings", "--recordings")
            )
            self._connection = opened.enter_context(contextlib.closing(_open(folder)))
            self._files = _identities(folder)
            self._forget()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes the folder, after which another process may open it."""
        with self._lock:
            self._opened.close()

    def set_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Offers these prompts, in this order, and no others; takes of others are kept."""
        rows = [(each.prompt_id, each.text, at) for at, each in enumerate(prompts)]
        with self._writing() as database:
            database.execute("UPDATE prompts SET position = NULL")
            database.executemany(
                "INSERT INTO prompts VALUES (?, ?, ?) ON CONFLICT (prompt_id) DO UPDATE "
                "SET text = excluded.text, position = excluded.position",
                rows,
            )

    def add_speaker(self, name: str, consent: str) -> str:
        """Adds a person who agreed to a text; returns the token that the person is known by."""
        token = secrets.token_urlsafe(24)
        with self._writing() as database:
            database.execute(
                "INSERT INTO speakers (token, name, consent_id, consented_at) VALUES (?, ?, ?, ?)",
                (token, name, _consent_id(database, consent), _now()),
            )
        return token

    def renew_consent(self, token: str, name: str, consent: str) -> None:
        """Stores a speaker's new name, and that the speaker agreed to another text."""
        with self._writing() as database:
            database.execute(
                "UPDATE speakers SET name = ?, consent_id = ?, consented_at = ? WHERE token = ?",
                (name, _consent_id(database, consent), _now(), token),
            )

    def find_speaker(self, token: str) -> Speaker | None:
        """Returns the speaker with a token; None if there is none."""
        row = self._row(
            "SELECT speaker_id, name, text FROM speakers JOIN consents USING (consent_id) "
            "WHERE token = ?",
            token,
        )
        return Speaker(*row) if row else None

    def remove_speaker(self, speaker: Speaker) -> None:
        """Removes a speaker with all takes, so that neither sound nor text is left in the files."""
        with self._lock:
            with self._writing() as database:
                _doubt(database, "speaker_id = ?", speaker.speaker_id)
                database.execute("DELETE FROM speakers WHERE speaker_id = ?", (speaker.speaker_id,))
            self._forget()

    def has_prompt(self, prompt_id: str) -> bool:
        """Returns whether a prompt is or was offered."""
        return bool(self._row("SELECT 1 FROM prompts WHERE prompt_id = ?", prompt_id))

    def offered_prompts(self, speaker: Speaker, takes: Sequence[Take]) -> list[OfferedPrompt]:
        """Returns the prompts, those with the fewest usable takes of others first.

        Args:
            takes: the speaker's.
        """
        with self._lock:
            rows = self._connection.execute(
                "SELECT prompts.prompt_id, prompts.text, count(others.take_id) "
                "FROM prompts LEFT JOIN takes AS others ON others.prompt_id = prompts.prompt_id "
                "AND others.usable AND others.speaker_id != ? WHERE position IS NOT NULL "
                "GROUP BY prompts.prompt_id ORDER BY count(others.take_id), position",
                (speaker.speaker_id,),
            ).fetchall()
        taken = {each.prompt_id: each for each in takes}
        offered = []
        for prompt_id, text, others in rows:
            take = taken.get(prompt_id)
            # A prompt whose text was changed since is to be read again.
            same = take if take and take.text == text else None
            offered.append(OfferedPrompt(Prompt(prompt_id, text), same, others))
        return offered

    def takes_of(self, speaker: Speaker) -> list[Take]:
        """Returns a speaker's takes, the oldest first."""
        with self._lock:
            return _takes(
                self._connection, "WHERE speaker_id = ? ORDER BY recorded_at", speaker.speaker_id
            )

    def find_take(self, speaker: Speaker, take_id: str) -> Take | None:
        """Returns a speaker's take; None if there is none."""
        with self._lock:
            found = _takes(
                self._connection,
                "WHERE speaker_id = ? AND take_id = ?",
                speaker.speaker_id,
                take_id,
            )
        return found[0] if found else None

    def add_take(
        self,
        speaker: Speaker,
        take_id: str,
        flac: bytes,
        seconds: float,
        check: Check,
        said: Prompt | Correction,
    ) -> Take:
        """Stores a take; once this returns it is on the disk.

        It replaces the speaker's take of the same prompt, and one of the same id. But one that
        isn't usable replaces no usable take of the same text: then nothing is stored.

        Raises:
            DatabaseGoneError: the database was deleted meanwhile.
            UserError: it can't be written.
            sqlite3.IntegrityError: the speaker was removed, or the id is another speaker's.
        """
        name = hashlib.sha256(flac).hexdigest()
        prompt_id = said.prompt_id if isinstance(said, Prompt) else None
        take = Take(take_id, speaker.speaker_id, said.text, name, seconds, check, prompt_id)
        with self._lock:
            if not check.usable and self._has_usable(take):
                return take
            with self._writing() as database:
                database.execute("INSERT OR IGNORE INTO doubtful_files VALUES (?)", (name,))
            try:
                self._write_audio(name, flac)
                with self._writing() as database:
                    _doubt(
                        database,
                        "speaker_id = ? AND (take_id = ? OR prompt_id = ?)",
                        speaker.speaker_id,
                        take_id,
                        prompt_id,
                    )
                    _insert(database, take, said if isinstance(said, Correction) else None)
            finally:
                self._remove_doubtful_files()
        return take

    def remove_take(self, take: Take) -> None:
        """Removes a take and its recording."""
        with self._lock:
            with self._writing() as database:
                _doubt(database, "take_id = ?", take.take_id)
            self._forget()

    def audio_path(self, name: str) -> str:
        """Returns the path of a take's recording."""
        return audio_path(self.folder, name)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Makes the block one transaction, which is on the disk afterwards.

        Raises:
            DatabaseGoneError: the file has no name any more, so that nobody would find what was
                written.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()
            if _identities(self.folder) != self._files:
                raise DatabaseGoneError

    def _row(self, query: str, *values: object) -> Any:
        with self._lock:
            return self._connection.execute(query, values).fetchone()

    def _write_audio(self, name: str, flac: bytes) -> None:
        path = self.audio_path(name)
        if not os.path.exists(path):
            storage.write_bytes(path, flac)
            _sync_folder(os.path.dirname(path))

    def _has_usable(self, take: Take) -> bool:
        """Returns whether the speaker has a usable take of the same prompt and text."""
        return bool(
            self._row(
                "SELECT 1 FROM takes "
                "WHERE speaker_id = ? AND prompt_id = ? AND text = ? AND usable",
                take.speaker_id,
                take.prompt_id,
                take.text,
            )
        )

    def _forget(self) -> None:
        """Removes files without a row, and what the database's log still has of removed rows.

        While another process reads, the log stays; it is emptied the next time.
        """
        self._remove_doubtful_files()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _remove_doubtful_files(self) -> None:
        names = self._connection.execute("SELECT audio FROM doubtful_files").fetchall()
        for (name,) in names:
            if not self._row("SELECT 1 FROM takes WHERE audio = ?", name):
                path = self.audio_path(name)
                for each in (path, storage.partial_path(path)):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(each)
        if names:
            with self._writing() as database:
                database.execute("DELETE FROM doubtful_files")


def audio_path(folder: str, name: str) -> str:
    """Returns the path of a recording in a folder of recordings."""
    return os.path.join(folder, AUDIO, name[:2], f"{name}{SUFFIX}")


def read_usable_takes(folder: str) -> list[Take]:
    """Reads the usable takes of a folder, also while a server writes there.

    Raises:
        UserError: the folder has no database, or a damaged one.
    """
    path = os.path.join(folder, DATABASE)
    if not os.path.isfile(path):
        raise UserError(
            f"{folder} has no {DATABASE}: name the folder that serve.py --recordings writes."
        )
    address = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, timeout=60, uri=True)) as connection:
            return _takes(connection, "WHERE usable ORDER BY recorded_at, take_id")
    except sqlite3.Error as error:
        raise _unopenable(path, error) from None


def _open(folder: str) -> sqlite3.Connection:
    """Opens a folder's database, which is made if it is missing."""
    path = os.path.join(folder, DATABASE)
    try:
        # Without isolation level: transactions are begun explicitly.
        connection = sqlite3.connect(
            path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a committed row survives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # removed text is overwritten
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not version:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise UserError(
                f"{path} has the version {version}, not {_VERSION}: update this project, or name "
                "another folder."
            )
    except sqlite3.Error as error:
        raise _unopenable(path, error) from None
    os.chmod(path, 0o600)  # tokens and names are private
    return connection


def _identities(folder: str) -> list[tuple[int, int] | None]:
    """Returns which files have the names of the database and its log; None: there is none."""
    found: list[tuple[int, int] | None] = []
    for name in (DATABASE, f"{DATABASE}-wal"):
        try:
            status = os.stat(os.path.join(folder, name))
            found.append((status.st_dev, status.st_ino))
        except FileNotFoundError:
            found.append(None)
    return found


def _unopenable(path: str, error: sqlite3.Error) -> UserError:
    return UserError(
        f"{path} can't be opened: {error}. Check its permissions, restore it from a copy, or name "
        "another folder."
    )


def _doubt(database: sqlite3.Connection, condition: str, *values: object) -> None:
    """Removes takes, and lists their files as doubtful."""
    database.execute(
        f"INSERT OR IGNORE INTO doubtful_files SELECT audio FROM takes WHERE {condition}", values
    )
    database.execute(f"DELETE FROM takes WHERE {condition}", values)


def _insert(database: sqlite3.Connection, take: Take, correction: Correction | None) -> None:
    of_correction: tuple[str | None, ...] = (None, None, None)
    if correction:
        of_correction = (correction.heard, correction.model, correction.scorer)
    database.execute(
        "INSERT INTO takes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            take.take_id,
            take.speaker_id,
            take.prompt_id,
            take.text,
            take.audio,
            take.seconds,
            take.check.problem,
            take.check.usable,
            *of_correction,
            _now(),
        ),
    )


def _takes(connection: sqlite3.Connection, condition: str, *values: object) -> list[Take]:
    rows = connection.execute(
        "SELECT take_id, speaker_id, text, audio, seconds, problem, usable, prompt_id FROM takes "
        + condition,
        values,
    ).fetchall()
    return [
        Take(take_id, speaker_id, text, audio, seconds, Check(problem, bool(usable)), prompt_id)
        for take_id, speaker_id, text, audio, seconds, problem, usable, prompt_id in rows
    ]


def _consent_id(database: sqlite3.Connection, text: str) -> int:
    database.execute("INSERT OR IGNORE INTO consents (text) VALUES (?)", (text,))
    (number,) = database.execute(
        "SELECT consent_id FROM consents WHERE text = ?", (text,)
    ).fetchone()
    return int(number)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _sync_folder(folder: str) -> None:
    """Makes new names in a folder survive a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
