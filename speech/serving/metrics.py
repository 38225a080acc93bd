"""The metrics of /metrics, in Prometheus' text format."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

LATENCIES = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)  # seconds
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "speech_requests",
            "Requests by route and HTTP status.",
            ["route", "status"],
            registry=self._registry,
        )
        self.latency = Histogram(
            "speech_request_seconds",
            "From a request's first byte to its response.",
            ["route"],
            buckets=LATENCIES,
            registry=self._registry,
        )
        self.audio_seconds = Counter(
            "speech_audio_seconds", "Audio that was transcribed.", registry=self._registry
        )
        self.batch_sizes = Histogram(
            "speech_batch_size",
            "Utterances that the network computed at once.",
            buckets=BATCH_SIZES,
            registry=self._registry,
        )
        self.waiting = Gauge(
            "speech_waiting_requests", "Transcriptions under way.", registry=self._registry
        )
        self.uploading = Gauge(
            "speech_uploading_requests", "Uploads that are coming in.", registry=self._registry
        )
        self.streams = Gauge(
            "speech_streams",
            "Streams of WebSockets and Wyoming that are open.",
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Returns all metrics as text."""
        return generate_latest(self._registry)
