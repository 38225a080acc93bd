"""Downloads LibriSpeech's archives, checks and unpacks them."""

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request

from absl import logging
from tqdm import tqdm

from speech.system import storage
from utils import UserError

# MD5 of each archive, as https://www.openslr.org/resources/12/md5sum.txt lists them.
ARCHIVE_MD5 = {
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}

BLOCK = 1 << 20  # bytes


def download_split(split: str, site: str, folder: str) -> None:
    """Downloads one split of LibriSpeech to `folder`/LibriSpeech/`split`.

    Resumes an interrupted download; leaves a split that exists as it is.

    Raises:
        UserError: the split is unknown, the server can't be reached, or the checksum is wrong.
    """
    if split not in ARCHIVE_MD5:
        raise UserError(
            f"{split} is not a split of LibriSpeech: choose one of {', '.join(ARCHIVE_MD5)}."
        )
    unpacked = os.path.join(folder, "LibriSpeech", split)
    if os.path.isdir(unpacked):
        logging.info("%s exists.", unpacked)
        return
    archive = os.path.join(folder, f"{split}.tar.gz")
    if not os.path.exists(archive):
        _fetch(f"{site}/{split}.tar.gz", archive)
    try:
        _check(archive, ARCHIVE_MD5[split])
        _unpack(archive, split, folder)
    except (OSError, tarfile.TarError) as error:
        raise UserError(
            f"{archive} can't be unpacked: {error}. Free disk space and run the same command again."
        ) from None
    os.remove(archive)
    logging.info("%s is ready.", unpacked)


def _fetch(url: str, path: str) -> None:
    partial = storage.partial_path(path)
    have = os.path.getsize(partial) if os.path.exists(partial) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    total = 0
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with urllib.request.urlopen(request, timeout=60) as response:
            # A server that ignores the range sends the whole archive.
            continued = response.status == 206
            total = int(response.headers.get("Content-Length", 0)) + (have if continued else 0)
            with (
                open(partial, "ab" if continued else "wb") as file,
                tqdm(
                    total=total,
                    initial=have if continued else 0,
                    desc=os.path.basename(path),
                    unit="B",
                    unit_scale=True,
                ) as progress,
            ):
                while block := response.read(BLOCK):
                    file.write(block)
                    progress.update(len(block))
    except (OSError, http.client.HTTPException) as error:
        # 416: the partial file has the full length. Its checksum is verified later.
        if not (have and isinstance(error, urllib.error.HTTPError) and error.code == 416):
            raise UserError(
                f"{url} can't be downloaded: {error}. Run the same command again to resume, or "
                f"download it by other means to {path}."
            ) from None
    if os.path.getsize(partial) < total:
        raise UserError(f"{url} was cut off: run the same command again to resume.")
    os.replace(partial, path)


def _check(archive: str, expected: str) -> None:
    logging.info("Checking %s ...", archive)
    digest = hashlib.md5(usedforsecurity=False)
    with open(archive, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise UserError(
            f"{archive} has the MD5 {digest.hexdigest()} instead of {expected}: remove it and run "
            "the same command again."
        )


def _unpack(archive: str, split: str, folder: str) -> None:
    """Unpacks to a temporary folder and renames it, so that no split is ever incomplete."""
    partial = os.path.join(folder, f".{split}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    logging.info("Unpacking %s ...", archive)
    with tarfile.open(archive) as tar:
        # The checksum proves that the archive is LibriSpeech's: the paths of its members are safe.
        tar.extractall(partial)
    target = os.path.join(folder, "LibriSpeech", split)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(os.path.join(partial, "LibriSpeech", split), target)
    for name in os.listdir(os.path.join(partial, "LibriSpeech")):
        # Documents that LibriSpeech packs next to its splits: README.TXT, SPEAKERS.TXT, ...
        os.replace(
            os.path.join(partial, "LibriSpeech", name), os.path.join(folder, "LibriSpeech", name)
        )
    shutil.rmtree(partial)
