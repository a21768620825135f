"""Serve a bundle over HTTP: python -m pipeline.serve BUNDLE [--host HOST] [--port PORT]

Needs only the packages in deploy/requirements.in. docs/deployment.md describes the requests; deploy/Dockerfile makes a
container of it.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from pipeline.common.errors import exit_on_error
from pipeline.data.cifar10 import CHANNELS
from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.registry.bundle_model import model_of_bundle
from pipeline.serving.requests import MAXIMUM_IMAGES

WAITING = 32  # requests that may wait: with their files they need 340 MB at most


def serve(bundle: Path, host: str, port: int) -> None:
    """Check the bundle as `pipeline.predict` does, then answer requests until SIGTERM or Ctrl-C."""
    import uvicorn

    from pipeline.serving.app import Server

    with model_of_bundle(bundle) as (model, class_names, content):
        side = model.side
        model.predict(np.zeros((1, side, side, CHANNELS), np.uint8))
    session = open_session(content)
    workers = os.cpu_count() or 1
    server = Server(
        lambda images: predict_probabilities(session, images, MAXIMUM_IMAGES), class_names, side, workers, WAITING
    )
    print(f"serve: {bundle} on http://{host}:{port}", flush=True)
    uvicorn.run(server.app(), host=host, port=port, log_level="warning", access_log=False, server_header=False)


def main() -> None:
    """`python -m pipeline.serve`."""
    parser = argparse.ArgumentParser("python -m pipeline.serve", description="Serve a bundle over HTTP.")
    parser.add_argument("bundle", type=Path, help="a folder that `make export` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    serve(arguments.bundle, arguments.host, arguments.port)


if __name__ == "__main__":
    with exit_on_error("serve"):
        main()
