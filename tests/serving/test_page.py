"""The web page in a browser, served by serve.py as a separate program with tiny models.

Screenshots are written to the folder that PAGE_SCREENSHOTS names, by default to pytest's.
"""

import configparser
import contextlib
import functools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from doors import ROOT
from page_site import INSECURE_HOST, RIGHT, SILENT, UTTERANCES, Site, flags, write_site
from servers import Server, running

from speech.decoding.alignment import TimedWord
from speech.recordings.store import DATABASE, Take, read_usable_takes
from speech.transcription import subtitles

WEB = ROOT / "speech" / "serving" / "web"

# --- What needs no browser


def colours(style: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours."""

    def luminance(colour: str) -> float:
        values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str) -> None:
    light, dark = (WEB / "style.css").read_text().split("@media (prefers-color-scheme: dark)")
    colour = colours(light) | (colours(dark) if scheme == "dark" else {})
    on_page = ["text", "muted", "accent", "delete", "path"]
    pairs = [(each, behind) for each in on_page[:3] for behind in ("page", "panel")]
    pairs += [("delete", "page"), ("path", "page"), ("on-accent", "accent"), ("text", "said")]
    pairs += [(each, f"{each}-back") for each in ("substitute", "delete", "insert")]
    pairs += [("text", "delete-back"), ("insert", "panel")]
    for text, behind in pairs:
        assert contrast(colour[text], colour[behind]) >= 4.5, (text, behind)
    for behind in ("page", "panel"):  # the borders of what can be pressed
        assert contrast(colour["control"], colour[behind]) >= 3


def test_files_of_the_page_name_no_other_server_and_have_no_inline_code() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page)
    for path in (each for each in WEB.iterdir() if each.suffix in (".html", ".js", ".css")):
        for address in re.findall(r"https?://[^\s`\"'),]*", path.read_text()):
            assert address in ("https://", "http://localhost"), (path.name, address)


def test_every_id_that_the_modules_use_is_in_the_page() -> None:
    there = set(re.findall(r'\sid="([\w-]+)"', (WEB / "index.html").read_text()))
    for path in WEB.glob("*.js"):
        asked = set(re.findall(r'byId\("([\w-]+)"\)', path.read_text()))
        assert asked <= there, path.name


def test_every_status_that_the_server_refuses_with_has_a_sentence_on_the_page() -> None:
    table = (WEB / "problems.js").read_text().partition("const SENTENCES")[2]
    explained = set(re.findall(r"^  (\d{3}):", table, re.M))
    sources = [each.read_text() for each in (ROOT / "speech" / "serving").rglob("*.py")]
    statuses = set(re.findall(r"(?:RequestError|_refusal)\(\s*(\d{3})\b", "".join(sources)))
    assert len(statuses) >= 7
    assert statuses - {"416"} <= explained | {"500"}  # only players ask for ranges


def test_sample_is_small_is_packaged_and_is_the_scripts_output() -> None:
    sample = WEB / "sample.flac"
    assert sample.stat().st_size < 60_000
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    shipped = settings["options.package_data"]["speech.serving"].split(", ")
    for path in WEB.iterdir():
        if path.is_file():
            assert any(path.match(pattern) for pattern in shipped), path.name
    pytest.importorskip("espeakng_loader")
    script = ROOT / "examples" / "page_sample.py"
    # In another process: the library keeps its state from one utterance to the next.
    program = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1].rpartition('/')[0]); "
        "sys.stdout.buffer.write(runpy.run_path(sys.argv[1])['speak']().tobytes())"
    )
    spoken = subprocess.run(
        [sys.executable, "-c", program, str(script)], cwd=ROOT, capture_output=True, check=True
    )
    kept, rate = soundfile.read(sample, dtype="int16")
    assert rate == 16000 and 2 <= len(kept) / rate <= 3
    assert np.abs(kept - np.frombuffer(spoken.stdout, np.int16).astype(int)).max() <= 8


# --- The browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    _chromium()  # without one there is no need to start anything
    folder = tmp_path_factory.mktemp("site")
    write_site(folder)
    with running(folder / "temporary", *flags(folder)) as server:
        yield Site(folder, server.url)


@pytest.fixture(scope="module")
def launch(site: Site) -> Iterator[Callable[[str], Any]]:
    """Returns the browser whose microphone plays a file of the site."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright, contextlib.ExitStack() as closing:

        @functools.cache
        def launch(microphone: str) -> Any:
            launched = playwright.chromium.launch(
                executable_path=_chromium(),
                args=[
                    "--no-sandbox",
                    "--autoplay-policy=no-user-gesture-required",
                    # Each test decides whether a page may use it.
                    "--use-fake-device-for-media-stream",
                    f"--use-file-for-fake-audio-capture={site.folder / microphone}",
                    # A host name that the browser doesn't take for this machine's.
                    f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1",
                ],
            )
            closing.callback(launched.close)
            return launched

        yield launch


def _chromium() -> str:
    pytest.importorskip("playwright")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium: install it to test the page in a browser")
    return program


Open = Callable[..., Any]


@pytest.fixture
def open_page(launch: Callable[[str], Any], site: Site) -> Iterator[Open]:
    """Opens the page; at the end checks that it used no other server and logged no errors."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        path: str = "/",
        address: str = site.address,
        microphone: str = "spoken.wav",
        **context: Any,
    ) -> Any:
        screen = {"viewport": {"width": 1100, "height": 800}}
        opened = launch(microphone).new_context(**{**screen, **context})
        opened.set_default_timeout(20000)
        contexts.append(opened)
        page = opened.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", check_message)
        page.on("request", lambda request: check(request.url, address))
        page.goto(address + path)
        return page

    def check_message(message: Any) -> None:
        # Browsers also log there that the server refused a request, or is gone.
        if message.type in ("error", "warning") and "Failed to load" not in message.text:
            complaints.append(message.text)

    def check(url: str, address: str) -> None:
        if not url.startswith((address, "blob:", "data:")):
            complaints.append(f"asked {url}")

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def screenshot(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], None]:
    folder = Path(os.environ.get("PAGE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Any) -> None:
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / f"{request.node.name}.png", full_page=True)

    return take


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Waits until JavaScript is true; the page's policy forbids Playwright's wait_for_function."""
    stop = time.monotonic() + 20
    while not page.evaluate(condition, argument):
        assert time.monotonic() < stop, condition
        page.wait_for_timeout(30)


def upload(page: Any, path: Path) -> None:
    page.wait_for_selector("#choose:enabled")
    page.set_input_files("#file", path)


def shown(page: Any) -> str:
    """Waits for the transcript, and returns it."""
    page.wait_for_selector("#pictures:not([hidden])")
    page.wait_for_selector("#cancel", state="hidden")
    return page.inner_text("#words .transcript >> nth=0")


def shown_nothing(page: Any) -> bool:
    page.wait_for_selector("#words .empty")
    return page.locator(".word").count() == 0


def alert(page: Any) -> str:
    """Waits for an error, and returns its sentence."""
    page.wait_for_selector("#alert > p")
    return plain(page.inner_text("#alert > p"))


def alert_details(page: Any) -> str:
    """Unfolds the error's details, and returns them."""
    assert not page.evaluate("document.querySelector('#alert details').open")
    page.click("#alert summary")
    return page.inner_text("#alert details p")


def seconds(page: Any) -> float:
    return page.evaluate("document.getElementById('player').currentTime")


def ink(page: Any, name: str) -> int:
    """Returns the number of different colours on a canvas."""
    return page.evaluate(
        """name => {
          const canvas = document.getElementById(name);
          const pen = canvas.getContext("2d");
          const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }""",
        name,
    )


def api_answer(site: Site, name: str = "spoken.wav", **query: str) -> Any:
    asked = "&".join(f"{key}={value}" for key, value in {"candidates": "5", **query}.items())
    request = urllib.request.Request(
        f"{site.address}/api/transcribe?{asked}",
        (site.folder / name).read_bytes(),
        {"content-type": "audio/wav"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def test_chosen_file_is_shown_as_words_and_pictures(
    open_page: Open, site: Site, screenshot: Callable[[Any], None]
) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    text = shown(page)
    assert text == api_answer(site, model="tiny", scorer="tiny.scorer")["text"]
    assert len(text.split()) >= 3
    until(page, "document.getElementById('wave').hasAttribute('aria-valuetext')")
    assert all(ink(page, name) > 10 for name in ("wave", "spectrogram", "features", "letters"))
    screenshot(page)


@pytest.mark.slow
def test_file_can_be_dropped_anywhere(open_page: Open, site: Site) -> None:
    page = open_page()
    page.wait_for_selector("#choose:enabled")
    content = list((site.folder / "spoken.wav").read_bytes())
    dropped = page.evaluate_handle(
        """content => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(content)], "dropped.wav"));
          return data;
        }""",
        content,
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": dropped})
    assert page.is_visible("#curtain")
    page.dispatch_event("main", "drop", {"dataTransfer": dropped})
    assert len(shown(page).split()) >= 3
    assert "dropped.wav" in page.inner_text("#result-name")
    assert not page.is_visible("#curtain")


@pytest.mark.slow
def test_word_seeks_to_its_time_and_is_marked_while_it_plays(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    words = api_answer(site, model="tiny", scorer="tiny.scorer")["segments"][0]["words"]
    page.evaluate("document.getElementById('player').play = () => Promise.resolve()")
    for i in (2, 0):
        page.locator(".word").nth(i).click()
        assert seconds(page) == pytest.approx(words[i]["start_time"], abs=0.01)
        until(page, f"document.querySelectorAll('.word')[{i}].ariaCurrent")
        assert page.locator(".said").count() == 1
    page.evaluate("delete document.getElementById('player').play")
    page.click("#play")
    until(page, "document.getElementById('player').currentTime > 0.5")
    assert page.inner_text("#play") == "Pause"


@pytest.mark.slow
def test_other_candidates_are_listed(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    page.click("#words summary")
    texts = [page.inner_text(f"#words li >> nth={i} >> span >> nth=0") for i in range(4)]
    candidates = api_answer(site, model="tiny", scorer="tiny.scorer")["segments"][0]["candidates"]
    assert texts == [each["text"] for each in candidates[1:]]


@pytest.mark.slow
def test_the_pickers_offer_the_scorers_that_fit_and_recognise_again(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    with_scorer = shown(page)
    assert page.locator("#scorer option").all_inner_texts() == ["tiny.scorer", "none"]
    with page.expect_response("**/api/transcribe"):
        page.select_option("#scorer", "")
    until(
        page, "text => document.querySelector('#words .transcript').innerText !== text", with_scorer
    )
    with page.expect_response("**/api/transcribe"):
        page.select_option("#model", "tiny-ar")
    assert page.locator("#scorer option").all_inner_texts() == ["none"]


@pytest.mark.slow
def test_result_names_the_model_that_made_it_after_another_is_picked_and_cancelled(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    by_tiny = page.inner_text("#result-name")
    assert plain(by_tiny) == "spoken.wav, 2.0 s, recognised by tiny with tiny.scorer"
    page.route("**/api/transcribe", lambda route: None)  # it takes long
    page.select_option("#model", "tiny-ar")
    page.click("#cancel")
    until(page, "document.getElementById('status').innerText === 'Cancelled.'")
    assert page.inner_text("#result-name") == by_tiny
    page.unroute("**/api/transcribe")
    page.select_option("#model", "tiny")
    page.select_option("#model", "tiny-ar")
    until(page, "document.getElementById('result-name').innerText.includes('tiny-ar')")
    assert plain(page.inner_text("#result-name")).endswith("recognised by tiny-ar without a scorer")


def plain(text: str) -> str:
    """Removes Unicode's isolates."""
    return text.replace("\u2068", "").replace("\u2069", "")


@pytest.mark.slow
def test_microphone_without_sound_says_that_nothing_was_recorded(open_page: Open) -> None:
    page = open_page(permissions=["microphone"])
    page.wait_for_selector("#record:enabled")
    page.evaluate(  # what a device that fell asleep gives: a stream that sends no samples
        """() => {
          AudioContext.prototype.createMediaStreamSource = () => ({ connect() {} });
        }"""
    )
    page.click("#record")
    page.wait_for_selector(".recording")
    page.click("#record")
    assert "Nothing was recorded" in alert(page)
    assert page.is_hidden("#save-recording") and not page.inner_text("#status")


@pytest.mark.slow
def test_arabic_runs_from_right_to_left(
    open_page: Open, site: Site, screenshot: Callable[[Any], None]
) -> None:
    page = open_page(color_scheme="dark", viewport={"width": 360, "height": 740})
    page.wait_for_selector("#choose:enabled")
    page.select_option("#model", "tiny-ar")
    upload(page, site.folder / "spoken.wav")
    assert re.search("[\u0600-\u06ff]", shown(page))
    direction = "getComputedStyle(document.querySelector('#words .transcript')).direction"
    assert page.evaluate(direction) == "rtl"
    boxes = [page.locator(".word").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["x"] > boxes[1]["x"]
    page.locator(".word").first.focus()
    page.keyboard.press("ArrowLeft")  # to the next one
    assert page.evaluate("document.activeElement === document.querySelectorAll('.word')[1]")
    screenshot(page)


@pytest.mark.slow
def test_speech_is_shown_while_it_is_recorded_and_recognised_afterwards(
    open_page: Open, screenshot: Callable[[Any], None]
) -> None:
    page = open_page(permissions=["microphone"])
    page.click("#record:enabled")
    until(page, "document.getElementById('live-text').innerText.trim()")
    assert page.inner_text("#record") == "Stop"
    assert page.is_disabled("#choose")
    until(page, "document.getElementById('level').value > 0.02")
    until(page, "document.getElementById('clock').innerText >= '0:02'")
    screenshot(page)
    page.click("#record")
    assert len(shown(page).split()) >= 2
    assert page.inner_text("#record") == "Record"
    assert "recording.wav" in page.inner_text("#result-name")
    assert page.evaluate("document.getElementById('player').duration") > 2
    assert ink(page, "letters") > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "longest", "reason"),
    [
        ("--max_seconds=2", 2.0, "longer than the 2 seconds"),
        ("--max_upload_mb=0.2", 0.1e6 / 44100, "larger than the 0.2"),
    ],
    ids=["seconds", "bytes"],
)
def test_recording_ends_at_the_servers_limit_and_is_never_lost(
    open_page: Open,
    site: Site,
    tmp_path: Path,
    screenshot: Callable[[Any], None],
    limit: str,
    longest: float,
    reason: str,
) -> None:
    with running(tmp_path / "limited", *flags(site.folder), limit) as server:
        page = open_page(address=server.url, permissions=["microphone"])
        page.click("#record:enabled")
        assert shown(page)
        assert page.inner_text("#record") == "Record"
        assert "stopped at the server's limit" in page.inner_text("#status")
        assert longest - 0.3 < page.evaluate("document.getElementById('player').duration") < longest
        assert not page.inner_text("#alert")
        assert longest - 0.3 < saved_recording(page) < longest

        page.route(
            "**/api/models", without_limits
        )  # as for a page that was loaded before the limits were set
        page.reload()
        page.click("#record:enabled")
        until(page, "document.getElementById('clock').innerText >= '0:03'")
        if limit.startswith("--max_seconds"):  # a stream has no limit of bytes
            until(page, "document.getElementById('live-note').innerText.includes('ended the live')")
            assert "The stream is longer" in page.text_content("#live-note details p")
        page.click("#record")
        assert "too large or too long" in alert(page)
        assert reason in alert_details(page)
        assert not page.inner_text("#status")
        screenshot(page)
        assert saved_recording(page) > 3


def without_limits(route: Any) -> None:
    """Answers with the server's response, but without limits."""
    response = route.fetch()
    content = response.json()
    content["limits"] = {"upload_bytes": 10**9, "seconds": 1000}
    route.fulfill(response=response, json=content)


def saved_recording(page: Any) -> float:
    """Returns the seconds of the file that "Save recording" writes."""
    with page.expect_download() as download:
        page.click("#save-recording")
    assert download.value.suggested_filename == "recording.wav"
    return float(soundfile.info(download.value.path()).duration)


@pytest.mark.slow
def test_recording_is_shown_and_can_be_stopped_in_the_test_sets(
    open_page: Open, screenshot: Callable[[Any], None]
) -> None:
    page = open_page(permissions=["microphone"], viewport={"width": 360, "height": 740})
    page.click("#record:enabled")
    page.wait_for_selector(".recording")
    page.click("#to-sets")
    page.wait_for_selector("#utterances article")
    assert page.is_visible("#record") and page.is_visible("#clock")
    screenshot(page)
    page.get_by_role("button", name="Pictures: utterance-0000").click()
    assert "Press Stop first" in alert(page)
    page.wait_for_timeout(200)  # the event of the new address comes later
    assert "Press Stop first" in alert(page)
    page.click("#to-sets")
    until(page, "document.getElementById('clock').innerText >= '0:02'")
    page.click("#record")
    assert shown(page)
    assert page.is_hidden("#sets-view")
    page.click("#to-sets")
    assert page.is_hidden("#give")


@pytest.mark.slow
def test_error_stays_when_it_changes_the_view(open_page: Open, site: Site) -> None:
    page = open_page("/#sets")
    page.wait_for_selector("#choose:enabled", state="attached")
    page.set_input_files("#file", site.folder / "too-large.wav")
    assert "too large" in alert(page)
    page.wait_for_timeout(1000)  # the event of the new address, and the set's page, come later
    assert "too large" in alert(page)
    assert page.is_visible("#give") and page.is_hidden("#sets-view")
    page.click("#to-sets")
    page.wait_for_selector("#utterances article")
    assert not page.inner_text("#alert")


@pytest.mark.slow
def test_back_and_the_skip_link_keep_the_view(open_page: Open) -> None:
    page = open_page("/#main")
    page.click("#to-sets")
    page.wait_for_selector("#utterances article")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.is_visible("#sets-view")
    page.go_back()
    page.wait_for_selector("#give", state="visible")
    assert page.is_hidden("#sets-view")


@pytest.mark.slow
def test_denied_microphone_shows_a_remedy_instead_of_the_last_transcript(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    assert shown(page)
    page.click("#record:enabled")
    assert "may not use the microphone" in alert(page)
    assert put_away(page)
    assert page.is_enabled("#record")


@pytest.mark.slow
def test_insecure_page_says_why_it_can_not_record(open_page: Open, site: Site) -> None:
    page = open_page(address=f"http://{INSECURE_HOST}:{site.port}")
    page.click("#record:enabled")
    assert "by https" in alert(page) and "http://localhost" in alert(page)
    upload(page, site.folder / "spoken.wav")  # files can be given nevertheless
    assert shown(page)
    assert not page.inner_text("#alert")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sentence", "details"),
    [
        ("notes.txt", "No sound was found in notes.txt", "can't be read as audio"),
        ("too-long.wav", "too-long.wav is too large or too long", "longer than the 30 seconds"),
        ("too-large.wav", "too-large.wav is too large or too long", "1.9 MB"),
        ("empty.wav", "No sound was found in empty.wav", "contains no samples"),
    ],
)
def test_unusable_file_shows_a_sentence_instead_of_the_last_transcript(
    open_page: Open,
    site: Site,
    screenshot: Callable[[Any], None],
    name: str,
    sentence: str,
    details: str,
) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    assert shown(page)
    page.click("#play")
    upload(page, site.folder / name)
    assert sentence in alert(page)
    assert details in alert_details(page)
    screenshot(page)
    assert page.get_attribute("#alert", "role") == "alert"
    assert put_away(page) and not page.inner_text("#status")
    assert page.evaluate("document.getElementById('player').paused")
    upload(page, site.folder / "spoken.wav")
    assert shown(page)
    assert not page.inner_text("#alert")


def put_away(page: Any) -> bool:
    """Returns whether no transcript is shown."""
    return page.is_hidden("#result") and page.is_hidden("#pictures")


def answering(status: int, headers: dict[str, str], body: str) -> Callable[[Any], None]:
    return lambda route: route.fulfill(status=status, headers=headers, body=body)


BUSY = {"Retry-After": "5", "Content-Type": "application/json"}


@pytest.mark.slow
def test_browser_that_is_given_the_key_uses_the_page_and_live_text(
    open_page: Open, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("secret\n")
    keyed = (*flags(site.folder), f"--api_key_file={tmp_path / 'keys'}")
    with running(tmp_path / "temporary", *keyed) as server:
        given = {"username": "any", "password": "secret"}
        page = open_page(address=server.url, http_credentials=given)
        upload(page, site.folder / "spoken.wav")
        assert shown(page)
        first = page.evaluate(
            """() => new Promise((resolve) => {
              const socket = new WebSocket(`ws://${location.host}/api/stream`);
              socket.onopen = () => socket.send('{"sample_rate": 16000}');
              socket.onmessage = ({ data }) => resolve(JSON.parse(data).type);
              socket.onerror = () => resolve("refused");
            })"""
        )
        assert first == "ready"


@pytest.mark.slow
def test_each_status_has_its_sentence_also_from_a_proxy_without_json(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    answers = [
        # status, headers, body; sentence, details, whether to try again
        (503, BUSY, '{"error": "Full."}', "busy. Try again in 5 seconds", "Full.", True),
        (429, {}, "<h1>Slow down</h1>", "busy. Try again in a minute", "HTTP status 429", True),
        (408, {}, '{"error": "Slow."}', "The upload was too slow", "Slow.", True),
        (413, {}, "<h1>413</h1>", "spoken.wav is too large or too long", "HTTP status 413", False),
        (507, {}, '{"error": "Disk."}', "server's disk is full", "Disk.", True),
        (500, {}, '{"error": "Log."}', "The server failed", "Log.", True),
        (502, {}, "null", "The server failed", "HTTP status 502", True),
        (402, {}, "", "The server refused this", "HTTP status 402", False),
    ]
    upload(page, site.folder / "spoken.wav")
    for status, headers, body, sentence, details, again in answers:
        assert shown(page)
        page.route("**/api/transcribe", answering(status, headers, body))
        upload(page, site.folder / "spoken.wav")
        assert sentence in alert(page), status
        assert details in alert_details(page), status
        assert put_away(page), status
        page.unroute("**/api/transcribe")
        assert page.is_visible("#alert button") == again, status
        if again:
            page.click("#alert button")
        else:
            upload(page, site.folder / "spoken.wav")


@pytest.mark.slow
def test_focus_goes_to_the_transcript_which_is_read_out_once(open_page: Open, site: Site) -> None:
    for screen in ({"width": 1100, "height": 800}, {"width": 360, "height": 740}):
        page = open_page(viewport=screen)
        upload(page, site.folder / "spoken.wav")
        text = shown(page)
        focused = page.locator(":focus")
        assert focused.get_attribute("id") == "result-title"
        for part in (focused, page.locator(".word").first):
            box = part.bounding_box()
            assert 0 <= box["y"] <= screen["height"] - box["height"]
        assert page.text_content("#result-spoken") == text
        assert text not in page.text_content("#status")
        # Who picks a model with the arrow keys isn't taken away from it.
        page.locator("#scorer").focus()
        with page.expect_response("**/api/transcribe"):
            page.select_option("#scorer", "")
        until(page, "document.getElementById('status').innerText.includes('Recognised')")
        assert page.evaluate("document.activeElement.id") == "scorer"
        assert page.inner_text("#words .transcript") in page.text_content("#status")
        assert not page.text_content("#result-spoken")


@pytest.mark.slow
def test_keyboard_starts_and_stops_a_recording_which_hides_the_last_transcript(
    open_page: Open, site: Site
) -> None:
    page = open_page(permissions=["microphone"])
    upload(page, site.folder / "spoken.wav")
    shown(page)
    page.locator("#record").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".recording")
    assert put_away(page)
    until(page, "document.getElementById('clock').innerText >= '0:01'")
    assert page.evaluate("document.activeElement.id") == "record"
    page.keyboard.press("Enter")
    assert shown(page)
    assert page.evaluate("document.activeElement.id") == "result-title"


@pytest.mark.slow
def test_cancel_keeps_the_focus_and_shows_no_other_recordings_transcript(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    page.route("**/api/transcribe", lambda route: None)  # it takes long
    upload(page, site.folder / "several.wav")
    page.locator("#cancel").focus()
    page.keyboard.press("Enter")
    until(page, "document.getElementById('status').innerText === 'Cancelled.'")
    assert put_away(page)
    assert page.evaluate("document.activeElement.id") == "choose"


@pytest.mark.slow
def test_sample_is_real_speech_if_a_test_set_fits_the_model(
    open_page: Open, screenshot: Callable[[Any], None]
) -> None:
    page = open_page()
    page.wait_for_selector("#sample:enabled")
    screenshot(page)
    page.click("#sample")
    assert shown(page)
    assert "utterance-0000" in page.inner_text("#result-name")
    page.select_option("#model", "tiny-ar")
    page.click("#sample")
    until(page, "document.getElementById('result-name').innerText.includes('sample.flac')")
    assert shown(page)
    until(page, "document.getElementById('player').duration > 2")


@pytest.mark.slow
def test_phone_shows_no_hints_about_dropping_pointing_and_keys(
    open_page: Open, site: Site, screenshot: Callable[[Any], None]
) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    for context, has_mouse in (({}, True), (phone, False)):
        page = open_page(**context)
        upload(page, site.folder / "spoken.wav")
        shown(page)
        text = page.inner_text("body")
        for words in ("drop a file", "arrow keys", "Point to see values"):
            assert (words in text) == has_mouse, words
        assert ("Tap to go" in text) != has_mouse
    screenshot(page)


@pytest.mark.slow
def test_recording_outlives_its_server(
    open_page: Open, site: Site, tmp_path: Path, screenshot: Callable[[Any], None]
) -> None:
    with running(tmp_path / "first", *flags(site.folder)) as server:
        page = open_page(address=server.url, permissions=["microphone"])
        page.click("#record:enabled")
        until(page, "document.getElementById('live-text').innerText.trim()")
    until(page, "document.getElementById('live-note').innerText.includes('recording continues')")
    page.click("#record")
    assert "doesn't respond" in alert(page)
    assert saved_recording(page) > 0
    screenshot(page)
    port = server.url.rpartition(":")[2]
    with running(tmp_path / "second", *flags(site.folder), f"--port={port}"):
        page.click("#alert button")
        assert shown(page)
        assert "recording.wav" in page.inner_text("#result-name")


@pytest.mark.slow
def test_recording_without_words_says_so(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "silence.wav")
    assert shown_nothing(page)
    assert not page.is_visible("#words-note")
    upload(page, site.folder / "spoken.wav")
    until(page, "document.querySelectorAll('.word').length > 2")
    assert page.locator("#letters").is_visible()


@pytest.mark.slow
def test_pictures_share_a_time_axis_and_can_be_zoomed(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    box = page.locator("#spectrogram").bounding_box()
    page.locator("#spectrogram").click(position={"x": box["width"] / 2, "y": 30})
    middle = seconds(page)
    assert 0.8 < middle < 1.1
    page.mouse.move(5, 5)
    until(page, "document.getElementById('wave').ariaValueText.includes('level')")
    texts = {
        name: page.get_attribute(f"#{name}", "aria-valuetext")
        for name in ("wave", "spectrogram", "features", "letters")
    }
    assert all(text.startswith(f"{middle:.2f} s") for text in texts.values())
    assert "Hz" in texts["spectrogram"] and "bin" in texts["features"]
    assert re.search(r"letter .* \d+ %", texts["letters"])
    page.click("#zoom-in")
    page.click("#zoom-in")
    page.locator("#wave").click(position={"x": box["width"] - 2, "y": 30})
    near = seconds(page) - middle
    assert 0 < near < 0.6
    page.click("#zoom-all")
    page.locator("#wave").click(position={"x": box["width"] - 2, "y": 30})
    assert seconds(page) - middle > 0.9


@pytest.mark.slow
def test_pointing_shows_time_letter_and_probability(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    texts = []
    for y in range(30, 80, 15):  # one row after the other
        page.locator("#letters").hover(position={"x": 300, "y": y})
        page.wait_for_timeout(100)
        texts.append(page.inner_text("#readout"))
    assert all(re.match(r"\d\.\d\d s.*, letter .+ \d+ %", each) for each in texts), texts
    assert len(set(texts)) > 1 and re.search(", and .+ \\d+ %$", texts[0] + texts[1]), texts


@pytest.mark.slow
def test_page_fits_a_small_screen(
    open_page: Open, site: Site, screenshot: Callable[[Any], None]
) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True)
    upload(page, site.folder / "spoken.wav")
    shown(page)
    page.click("#words summary")
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) <= 360
    screenshot(page)
    page.click("#to-sets")
    page.wait_for_selector("#utterances article")
    assert page.evaluate(width) <= 360


@pytest.mark.slow
def test_test_set_is_browsed_page_by_page(
    open_page: Open, site: Site, screenshot: Callable[[Any], None]
) -> None:
    page = open_page("/#sets")
    page.wait_for_selector("#utterances article")
    assert page.locator("#utterances article").count() == 10
    assert f"1 to 10 of {UTTERANCES}" in page.inner_text("#pages")
    assert re.search(r"This page: WER [\d.]+ %, CER [\d.]+ % of 10 utt", page.inner_text("#rates"))
    errors = page.locator(".alignment > .substitute, .alignment > .delete, .alignment > .insert")
    assert errors.count() > 0
    spoken = errors.first.locator(".hidden").inner_text()
    assert spoken in ("substituted:", "deleted:", "inserted:")
    screenshot(page)
    page.locator("#next").focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#utterances article').length === 4")
    assert f"of {UTTERANCES} utterances" in page.inner_text("#rates")
    assert page.is_disabled("#next")
    assert page.evaluate("document.activeElement.id") == "sets-title"
    page.locator("summary").first.press("Enter")
    page.get_by_role("button", name="Pictures: utterance-0010").click()
    assert shown(page)
    assert "utterance-0010" in page.inner_text("#result-name")


@pytest.mark.slow
def test_rows_without_errors_are_folded_or_hidden(
    open_page: Open, screenshot: Callable[[Any], None]
) -> None:
    page = open_page("/#sets")
    page.wait_for_selector("#utterances article")
    right = sum(number < 10 for number in RIGHT)
    assert page.locator("#utterances details:not([open])").count() == right
    assert page.get_by_role("button", name=re.compile("Listen: ")).count() == 10 - right
    page.locator("#errors-only").press("Space")
    assert page.locator("#utterances article:visible").count() == 10 - right
    screenshot(page)
    page.click("#next")
    page.wait_for_selector("#all-right")  # of the second page all is
    assert page.locator("#utterances article:visible").count() == 0
    page.click("#previous")
    until(page, "document.querySelectorAll('#utterances article').length === 10")
    assert page.locator("#utterances article:visible").count() == 10 - right
    page.locator("#errors-only").press("Space")
    assert page.locator("#utterances article:visible").count() == 10


@pytest.mark.slow
def test_set_has_one_player_that_loads_only_what_is_played(open_page: Open) -> None:
    page = open_page("/#sets")
    page.wait_for_selector("#utterances article")
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    for name in ("utterance-0000", "utterance-0005"):
        page.get_by_role("button", name=f"Listen: {name}").press("Enter")
        until(page, "document.querySelector('#utterances audio')?.currentTime > 0")
        assert page.get_attribute("#utterances audio", "aria-label") == f"Recording of {name}"
        assert page.locator("audio:visible").count() == 1
    assert set(asked) == {"utterance-0000", "utterance-0005"}
    page.get_by_role("button", name=f"Listen: utterance-{SILENT:04}").click()
    assert f"no recording of utterance-{SILENT:04}" in alert(page)
    page.get_by_role("button", name=f"Pictures: utterance-{SILENT:04}").click()
    until(page, "document.querySelector('#alert details p')?.textContent.includes('--audio')")
    assert f"no recording of utterance-{SILENT:04}" in alert(page)


@pytest.mark.slow
def test_set_that_does_not_fit_the_model_says_so(open_page: Open) -> None:
    page = open_page("/#sets")
    page.wait_for_selector("#utterances article")
    page.select_option("#model", "tiny-ar")
    assert alert(page) == (
        "The chosen model or scorer doesn't fit the test set tiny. Choose another one."
    )
    assert "prepared with another front end" in alert_details(page)
    assert page.locator("#utterances article").count() == 0


@pytest.mark.slow
def test_every_control_is_reached_with_the_keyboard_and_visible(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    # Watched from the start: playwright takes a moment to catch choosers, and a key is faster.
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.wait_for_selector("#choose:enabled")
    focused = "document.activeElement"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused}.id") == "choose":
            break
    page.keyboard.press("Enter")
    stop = time.monotonic() + 20
    while not choosers and time.monotonic() < stop:
        page.wait_for_timeout(30)
    choosers[0].set_files(site.folder / "spoken.wav")
    shown(page)
    reached, unseen = set(), []
    page.locator("#to-recording").focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(f"{focused}.className") == "skip"
    for _ in range(60):  # more than there are
        page.keyboard.press("Tab")
        name, visible = page.evaluate(
            """() => {
              const here = document.activeElement;
              const name = here.id || here.dataset.download || here.className || here.tagName;
              return [name, getComputedStyle(here).outlineStyle !== "none"];
            }"""
        )
        if name == "BODY":
            break
        reached.add(name)
        if not visible and name != "player":  # the browser's own player shows its own focus
            unseen.append(name)
    assert unseen == []
    assert reached >= {"to-recording", "to-sets", "model", "scorer", "record", "choose", "sample"}
    assert "player" in reached
    assert reached >= {"copy", "txt", "srt", "vtt", "json", "SUMMARY"}
    assert reached >= {"play", "zoom-in", "zoom-out", "zoom-all"}
    assert reached >= {"wave", "spectrogram", "features", "letters"}
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.id") == "main"


@pytest.mark.slow
def test_arrow_keys_move_through_words_and_pictures(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    page.locator(".word").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.word')[2]")
    page.locator("#letters").focus()
    page.keyboard.press("Home")
    assert seconds(page) == 0
    page.keyboard.press("ArrowRight")
    step = seconds(page)
    assert 0 < step <= 0.05
    page.keyboard.press("Shift+ArrowRight")
    assert seconds(page) == pytest.approx(1 + step, abs=0.01)
    page.keyboard.press("ArrowUp")
    text = "document.getElementById('letters').getAttribute('aria-valuetext')"
    until(page, f"{text}.includes('blank')")
    page.keyboard.press("Space")
    until(page, "!document.getElementById('player').paused")


@pytest.mark.slow
def test_screen_reader_finds_landmarks_and_names(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "spoken.wav")
    shown(page)
    until(page, "document.getElementById('wave').hasAttribute('aria-valuetext')")
    tree = page.locator("body").aria_snapshot()
    for part in ("banner", "main", 'navigation "Views"', 'region "Transcript"', "status"):
        assert f"- {part}" in tree, tree
    nameless = re.findall(
        r"- (?:button|link|combobox|slider|meter|group|img)(?: *:| *$)", tree, re.M
    )
    assert [each.strip(":") for each in nameless] == [
        "- group"
    ]  # the candidates, whose summary is their name
    assert len(re.findall(r'- slider "(?:Waveform|Spectrogram|Features|Letters)', tree)) == 4
    assert page.locator("html").get_attribute("lang") == "en"
    page.click("#to-sets")
    page.wait_for_selector("#utterances article")
    tree = page.locator("body").aria_snapshot()
    assert 'button "Pictures: utterance-0000"' in tree
    assert 'switch "Errors only"' in tree
    assert 'navigation "Pages of the set"' in tree


@pytest.mark.slow
def test_reduced_motion_stops_animations(open_page: Open) -> None:
    page = open_page(reduced_motion="reduce", permissions=["microphone"])
    page.click("#record:enabled")
    page.wait_for_selector(".recording")
    animation = "getComputedStyle(document.querySelector('.recording')).animationName"
    assert page.evaluate(animation) == "none"


@pytest.mark.slow
def test_recording_of_several_segments_shows_their_times(open_page: Open, site: Site) -> None:
    page = open_page()
    upload(page, site.folder / "several.wav")
    shown(page)
    assert page.locator("#words .segment .time").count() >= 2


def random_segments(seed: int) -> list[dict[str, Any]]:
    """Segments of an answer: words of all lengths, pauses, and times."""
    rng = np.random.default_rng(seed)
    now, segments = 0.0, []
    for _ in range(4):
        words = []
        for _ in range(rng.integers(1, 40)):
            letters = rng.choice(
                list("abc<&>éя"), rng.choice([1, 3, 5, 9, 50], p=[0.2, 0.3, 0.3, 0.19, 0.01])
            )
            duration = round(float(rng.uniform(0.02, 0.6)), 3)
            words.append({"word": "".join(letters), "start_time": now, "duration": duration})
            gap = rng.choice([0.0, 0.1, 0.7], p=[0.4, 0.5, 0.1])
            now = round(now + duration + float(gap), 3)
        segments.append({"text": " ".join(str(each["word"]) for each in words), "words": words})
    return segments


@pytest.mark.slow
def test_saved_files_are_those_of_the_command_line(open_page: Open) -> None:
    page = open_page()
    for seed in range(20):
        segments = random_segments(seed)
        written = page.evaluate(
            """async segments => {
              const files = await import("/static/subtitles.js");
              return [files.srt({ segments }), files.vtt({ segments }), files.txt({ segments })];
            }""",
            segments,
        )
        timed = [
            TimedWord(word["word"], word["start_time"], word["duration"])
            for segment in segments
            for word in segment["words"]
        ]
        wanted = [subtitles.srt(timed), subtitles.webvtt(timed), subtitles.plain_text(timed)]
        assert written == wanted, seed


@pytest.mark.slow
def test_transcript_can_be_saved_and_copied(open_page: Open, site: Site) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    upload(page, site.folder / "spoken.wav")
    text = shown(page)
    saved = {}
    for kind in ("txt", "srt", "vtt", "json"):
        with page.expect_download() as download:
            page.click(f"[data-download={kind}]")
        assert download.value.suggested_filename == f"spoken.{kind}"
        saved[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    assert saved["txt"].split() == text.split()
    assert " --> " in saved["srt"] and saved["vtt"].startswith("WEBVTT\n\n")
    content = json.loads(saved["json"])
    assert content["text"] == text and "waveform" not in content
    page.click("#copy")
    until(page, "document.getElementById('status').innerText.includes('copied')")
    assert page.evaluate("navigator.clipboard.readText()").split() == text.split()


# --- Reading aloud

SENTENCES = ["turn it on", "turn it off"]
ALL_SENT = "document.getElementById('outbox-note').innerText === ''"


@contextlib.contextmanager
def recording(site: Site, folder: Path, *more: str) -> Iterator[Server]:
    """Starts a server that records into a folder of `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "prompts.txt").write_text("\n".join(SENTENCES))
    with running(
        folder / f"temporary-{time.monotonic_ns()}",
        f"--models={site.folder / 'tiny'}",
        f"--recordings={folder / 'takes'}",
        f"--prompts={folder / 'prompts.txt'}",
        *more,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def recorder(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with recording(site, tmp_path_factory.mktemp("recorder")) as server:
        yield server


def takes_on(server: Server) -> list[Take]:
    return read_usable_takes(str(server.temporary.parent / "takes"))


def open_as_speaker(open_page: Open, server: Server, name: str) -> Any:
    """Opens the page, and enters as a new speaker."""
    page = open_page("/#corpus", server.url, microphone="sentence.wav", permissions=["microphone"])
    page.fill("#speaker-name", name)
    agree(page)
    return page


def agree(page: Any) -> None:
    page.wait_for_selector("#consent-form:not([hidden])")
    assert not page.is_checked("#consent-agree")
    page.check("#consent-agree")
    page.click("#consent-form button")
    page.wait_for_selector("#reading:not([hidden])")


def speak(page: Any) -> None:
    """Presses Record, and waits until the sentence was spoken."""
    page.click("#take")
    until(page, "document.getElementById('take-clock').innerText >= '0:02.0'")


def record_take(page: Any) -> None:
    speak(page)
    page.click("#take")


def verdict(page: Any) -> str:
    """Waits for what the server says about a take, and returns it."""
    page.wait_for_selector("#take-check:not(:empty):not(:text('Waiting'))")
    return page.inner_text("#take-check")


def wait_in_browser(page: Any) -> None:
    """Waits until the page says that a take isn't sent."""
    until(page, "document.getElementById('outbox-note').innerText.includes('1 recording not')")
    assert "Waiting for the server" in page.inner_text("#take-check")


@pytest.mark.slow
def test_speaker_records_one_sentence_after_another(
    open_page: Open, recorder: Server, screenshot: Callable[[Any], None]
) -> None:
    page = open_as_speaker(open_page, recorder, "anna")
    for number, sentence in enumerate(SENTENCES):
        assert page.inner_text("#prompt") == sentence
        assert f"{number} of 2 sentences" in page.inner_text("#progress-text")
        record_take(page)
        assert verdict(page) == "Good."
        assert page.inner_text("#take") == "Next"
        screenshot(page)
        page.click("#take")
    assert "All sentences are recorded" in page.inner_text("#progress-text")
    page.click("#take-listen")
    until(page, "document.getElementById('take-player').currentTime > 0")
    takes = takes_on(recorder)
    assert [each.text for each in takes] == SENTENCES
    assert all(2 <= each.seconds < 5 for each in takes)


@pytest.mark.slow
def test_leaving_the_view_stops_the_microphone_but_loses_no_finished_take(
    open_page: Open, recorder: Server
) -> None:
    page = open_as_speaker(open_page, recorder, "leaving")
    page.evaluate(
        """() => {
          const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = async (wanted) => {
            window.opened = await open(wanted);
            return window.opened;
          };
        }"""
    )
    ended = "window.opened.getTracks().every((track) => track.readyState === 'ended')"
    before = len(takes_on(recorder))
    speak(page)
    page.click("#take")  # Stop, and away before the recording has ended
    page.click("#to-recording")
    until(page, ended)
    page.click("#to-corpus")
    until(page, f"document.getElementById('progress').value === 1 && {ALL_SENT}")
    assert len(takes_on(recorder)) == before + 1
    speak(page)
    page.click("#to-recording")
    until(page, ended)
    page.click("#to-corpus")
    page.wait_for_selector("#take:text('Record')")
    assert "1 of 2 sentences" in page.inner_text("#progress-text")
    assert len(takes_on(recorder)) == before + 1


@pytest.mark.slow
def test_take_waits_in_the_browser_while_it_is_offline(open_page: Open, recorder: Server) -> None:
    page = open_as_speaker(open_page, recorder, "offline")
    before = len(takes_on(recorder))
    page.context.set_offline(True)
    record_take(page)
    wait_in_browser(page)
    assert page.inner_text("#take") == "Next"
    page.context.set_offline(False)
    assert verdict(page) == "Good."
    assert not page.inner_text("#outbox-note")
    assert len(takes_on(recorder)) == before + 1


@pytest.mark.slow
def test_changed_consent_is_asked_for_before_a_waiting_take_is_sent(
    open_page: Open, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "consent.txt").write_text("You may use my voice on Mars.")
    with recording(site, tmp_path) as first:
        page = open_as_speaker(open_page, first, "anna")
        speak(page)
        first.process.kill()
    page.click("#take")  # Stop
    wait_in_browser(page)
    port = first.url.rpartition(":")[2]
    consent = f"--consent={tmp_path / 'consent.txt'}"
    with recording(site, tmp_path, f"--port={port}", consent) as second:
        page.wait_for_selector("#consent-text:text('on Mars')")
        assert not takes_on(second)
        assert page.input_value("#speaker-name") == "anna"
        agree(page)
        until(page, ALL_SENT)
        assert [each.text for each in takes_on(second)] == [SENTENCES[0]]


@pytest.mark.slow
def test_take_outlives_the_servers_database(open_page: Open, site: Site, tmp_path: Path) -> None:
    with recording(site, tmp_path) as first:
        page = open_as_speaker(open_page, first, "anna")
        for each in (tmp_path / "takes").glob(f"{DATABASE}*"):
            each.unlink()
        with page.expect_response("**/takes/*") as refused:
            record_take(page)
        wait_in_browser(page)
        assert refused.value.status == 500
    port = first.url.rpartition(":")[2]
    with recording(site, tmp_path, f"--port={port}") as second:
        agree(page)  # the new database knows nobody
        until(page, ALL_SENT)
        assert [each.text for each in takes_on(second)] == [SENTENCES[0]]


@pytest.mark.slow
def test_speaker_deletes_everything(open_page: Open, recorder: Server) -> None:
    def stored() -> tuple[set[Path], list[int], bytes]:
        """Returns the recordings, the numbers of speakers and takes, and all other files."""
        folder = recorder.temporary.parent / "takes"
        found = [each for each in folder.rglob("*") if each.is_file()]
        audio = {each for each in found if each.suffix == ".flac"}
        with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
            counts = [
                database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("speakers", "takes")
            ]
        return audio, counts, b"".join(each.read_bytes() for each in found if each not in audio)

    audio, counts, _ = stored()
    page = open_as_speaker(open_page, recorder, "annabella")
    record_take(page)
    assert verdict(page) == "Good."
    more_audio, more, others = stored()
    assert more == [each + 1 for each in counts] and more_audio > audio and b"annabella" in others
    page.click("#speaker-data summary")
    page.click("#forget")
    assert "Delete 1 recording, 0 corrected transcripts" in page.inner_text("#forget-text")
    page.click("#forget-yes")
    page.wait_for_selector("#consent-form:not([hidden])")
    assert "deleted" in page.inner_text("#status") and not page.input_value("#speaker-name")
    left_audio, left, others = stored()
    assert (left_audio, left) == (audio, counts) and b"annabella" not in others
