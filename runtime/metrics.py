"""Every metric's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, generate_latest
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One replica's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"darkroom_runtime_{name}", text, registry=self.registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"darkroom_runtime_{name}_seconds", text, registry=self.registry, buckets=_SECONDS)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"darkroom_runtime_{name}", text, labels, registry=self.registry)

        self.ready = gauge("ready", "1 while this replica takes requests")
        self.unanswered = gauge("unanswered_requests", "Requests accepted and not yet answered")
        self.queue_depth = gauge("queue_depth", "Requests accepted and not yet begun")
        self.in_flight_rows = gauge("in_flight_rows", "UNet rows of all images that are begun and not yet denoised")
        self.target = Info("darkroom_runtime_target", "What this replica serves", registry=self.registry)
        self.fallback = gauge("target_fallback", "1 where the preferred kind of target does not fit this machine")
        self.load_seconds = gauge("load_seconds", "From start to the first warmed image")

        self.requests = counter("requests", "Requests by outcome: succeeded, or the error's code", "outcome")
        self.images = counter("images", "Images made and stored")
        self.row_steps = counter("row_steps", "UNet rows times steps")
        self.batch_splits = counter("batch_splits", "Batches that ran out of memory and were split")
        self.upload_retries = counter("upload_retries", "Uploads that were tried again")

        self.cache_lookups = counter("cache_lookups", "Prompts looked up: hit, miss, or renewed from noise", "outcome")
        self.cache_hits = counter("cache_hits", "Images that entered at a later step, by that step", "step")
        self.cache_steps_saved = counter("cache_steps_saved", "Steps that images did not take")
        self.cache_repeats = counter("cache_repeats", "Images answered from a finished one: same request, same seed")
        self.cache_not_admitted = counter("cache_not_admitted", "Images not remembered: too near to one that is")
        self.cache_evictions = counter("cache_evictions", "Entries that had to leave a tier", "tier")
        self.cache_damaged = counter("cache_damaged", "Entries that were not what was written; each was a miss")
        self.cache_failures = counter("cache_failures", "Writes and reads of a tier that failed", "tier")
        self.cache_lookup_seconds = seconds("cache_lookup", "Looking a prompt up and entering, one request")
        self.cache_bytes = Gauge(
            "darkroom_runtime_cache_bytes", "Bytes held by a tier", ["tier"], registry=self.registry
        )

        self.batch_rows = Histogram(
            "darkroom_runtime_batch_rows", "UNet rows in one step", registry=self.registry, buckets=_ROWS
        )
        self.queue_seconds = seconds("queue", "From acceptance to the first step")
        self.encode_seconds = seconds("encode", "Text encoder, one request")
        self.step_seconds = seconds("step", "One step of one batch")
        self.decode_seconds = seconds("decode", "VAE decoder, one image")
        self.request_seconds = seconds("request", "From acceptance to the answer, of requests that succeeded")

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)


def exposition(by_model: Mapping[str, Metrics]) -> bytes:
    """Prometheus' text format; where several replicas are in one process, each sample has its model as a label."""
    if len(by_model) == 1:
        return next(iter(by_model.values())).exposition()
    registry = CollectorRegistry()
    registry.register(_Together(by_model))
    return generate_latest(registry)


class _Together(Collector):
    def __init__(self, by_model: Mapping[str, Metrics]) -> None:
        self._by_model = by_model

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for model, metrics in self._by_model.items():
            for family in metrics.registry.collect():
                one = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                one.samples += [sample._replace(labels={**sample.labels, "model": model}) for sample in family.samples]
        return families.values()
