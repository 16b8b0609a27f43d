"""A collector in a process of its own, to be killed: `python serve_collector.py PORT`."""

import sys

import uvicorn
from fastapi import FastAPI

from collector.http import routes

app = FastAPI()
app.include_router(routes())

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
