"""Streams on a server's threads."""

import json
from pathlib import Path

from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from tiny_models import noise, write_model
from watched_threads import Watched

from speech.decoding.beam_search import BeamSettings
from speech.serving.routers.streams import Streams
from speech.serving.services.catalogue import open_catalogue
from speech.serving.services.reloading import ReloadableResources, Resources
from speech.serving.services.test_sets import TestSets
from speech.serving.slots import Slots


def test_thread_is_free_for_others_after_each_second_of_a_message(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "conv_gru")
    catalogue = open_catalogue([str(tmp_path / "model")], [], BeamSettings(8), 4)
    served = ReloadableResources(lambda: Resources(catalogue, TestSets([])))
    app = FastAPI()
    seconds: list[float] = []
    with Watched() as threads:
        streams = Streams(served, threads, Slots(1, "streams"), 60, seconds.append)

        @app.websocket("/")
        async def stream(websocket: WebSocket) -> None:
            await streams.serve(websocket)

        with TestClient(app).websocket_connect("/") as connection:
            connection.send_text(json.dumps({"sample_rate": 4000}))
            connection.send_bytes(noise(4000 * 10).tobytes())
            connection.send_text(json.dumps({"end": True}))
            while connection.receive_json()["type"] != "done":
                pass
    catalogue.close()
    assert threads.given.count("feed") == 10
    assert seconds == [10.0]
