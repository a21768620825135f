"""The server as an ASGI application.

`/invocations` speaks MLflow's scoring protocol, so clients of `mlflow models serve` need no change; `/classify` takes an
image file. MLflow's own server is not used, because it installs MLflow and pandas and has no limits and no metrics.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.serving.requests import MAXIMUM_FILE, Refused, image_of_file, images_of_json, longest_json, read_body

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 (n, side, side, 3) to float32 (n, classes)
SHOWN = 3  # classes of an image file


class Server:
    """Answers requests with one model.

    Args:
        predict: called in threads, by at most `workers` at once.
        waiting: requests that may wait for a thread; more are refused with 503.
    """

    def __init__(self, predict: Predict, class_names: list[str], side: int, workers: int, waiting: int) -> None:
        self._predict, self._class_names, self._side = predict, class_names, side
        self._limiter, self._most = anyio.CapacityLimiter(workers), workers + waiting
        self.registry = CollectorRegistry()
        labels = ("path", "status")
        self._requests = Counter("requests", "answered requests", labels, registry=self.registry)
        self._seconds = Histogram("request_seconds", "time to the answer", ("path",), registry=self.registry)
        self._images = Counter("images", "classified images", registry=self.registry)
        self._active = Gauge("requests_active", "requests that are read, waiting or computed", registry=self.registry)
        self._count = 0

    def app(self) -> Starlette:
        """The application with its routes."""
        answers = {"/invocations": self.invocations, "/classify": self.classify}
        routes = [
            Route(path, partial(self.answer, path, function), methods=["POST"]) for path, function in answers.items()
        ]
        routes += [Route(path, self.healthy) for path in ("/ping", "/health", "/ready")]
        return Starlette(routes=[*routes, Route("/metrics", self.metrics)])

    async def answer(self, path: str, function: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """The answer of `function`, or the reason why there is none; counted and timed."""
        start = time.perf_counter()
        self._count += 1
        self._active.set(self._count)
        try:
            if self._count > self._most:
                raise Refused(503, f"{self._most} requests are waiting already")
            response = await function(request)
        except Refused as refused:
            response = JSONResponse({"error": str(refused)}, refused.status)
        finally:
            self._count -= 1
            self._active.set(self._count)
        self._requests.labels(path, response.status_code).inc()
        self._seconds.labels(path).observe(time.perf_counter() - start)
        return response

    async def invocations(self, request: Request) -> Response:
        """MLflow's scoring protocol: the probabilities of images as numbers."""
        body = await read_body(request, longest_json(self._side))
        probabilities = await self._probabilities(images_of_json, body)
        return JSONResponse({"predictions": {"probabilities": probabilities.tolist()}})

    async def classify(self, request: Request) -> Response:
        """The most probable classes of an image file."""
        (row,) = await self._probabilities(image_of_file, await read_body(request, MAXIMUM_FILE))
        order = np.argsort(-row, kind="stable")[:SHOWN]
        best = [{"class": self._class_names[index], "probability": round(float(row[index]), 6)} for index in order]
        return JSONResponse({"predictions": best})

    async def _probabilities(self, read: Callable[[bytes, int], np.ndarray], body: bytes) -> np.ndarray:
        """The probabilities of the images that `read` finds in the body, computed in a thread."""

        def compute() -> np.ndarray:
            return self._predict(read(body, self._side))

        probabilities = await anyio.to_thread.run_sync(compute, limiter=self._limiter)
        self._images.inc(len(probabilities))
        return probabilities

    async def healthy(self, _: Request) -> Response:
        """The server answers, and its model has classified an image before it was started."""
        return PlainTextResponse("\n")

    async def metrics(self, _: Request) -> Response:
        """The metrics in Prometheus' text format."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)
