"""The collector alone, as one process serves it: `python -m benchmarks.ingest_server PORT`."""

import sys

import uvicorn
from fastapi import FastAPI

from collector.http import routes


def app() -> FastAPI:
    """An app of nothing but the collector's routes."""
    made = FastAPI()
    made.include_router(routes())
    return made


if __name__ == "__main__":
    uvicorn.run(app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
