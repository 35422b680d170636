"""What many people write today: sentence-transformers' CrossEncoder behind FastAPI, for ``modernrank bench serve``.

    pip install torch sentence-transformers fastapi uvicorn
    python fastapi_server.py CHECKPOINT --port 8101

The model runs in FastAPI's thread pool, one request at a time; torch has all threads.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations.

import argparse
import threading
from typing import Any


def make_app(checkpoint: str, threads: int) -> Any:
    """The application."""
    import torch
    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(threads)
    model = CrossEncoder(checkpoint, device="cpu")
    turn = threading.Lock()
    app = FastAPI()

    class Request(BaseModel):  # type: ignore[misc]
        query: str
        documents: list[str]

    @app.post("/rerank")  # type: ignore[untyped-decorator]
    def rerank(request: Request) -> dict[str, Any]:
        with turn:
            scores = model.predict([(request.query, document) for document in request.documents])
        results = [{"index": i, "relevance_score": float(score)} for i, score in enumerate(scores)]
        return {"results": sorted(results, key=lambda result: -result["relevance_score"])}

    return app


def main() -> None:
    """Serve until a signal ends it."""
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--port", type=int, default=8101)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    uvicorn.run(make_app(args.checkpoint, args.threads), port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
