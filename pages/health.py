"""`/health`: the state of the server as JSON, open to everyone, behind the same guard as every page."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pages.waiting_line import line_of
from rgtg.workbench.serving.health import health
from rgtg.workbench.workbench import Workbench

log = logging.getLogger(__name__)

ADDRESS = "/health"
Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]
_WORKBENCHES: WeakKeyDictionary[object, Workbench] = WeakKeyDictionary()


def tell(demo: object, workbench: Workbench) -> None:
    """Let the app of this Blocks report on this workbench."""
    _WORKBENCHES[demo] = workbench


def lifespan(inner: Lifespan) -> Lifespan:
    """The lifespan of the app, with the route in front of Gradio's own, which take every address for a page."""

    @asynccontextmanager
    async def with_health(app: Any) -> AsyncIterator[None]:
        workbench = _WORKBENCHES[app.get_blocks()]

        async def answer(request: Request) -> Response:
            try:
                report, status = await asyncio.to_thread(health, workbench, len(line_of(workbench))), 200
            except Exception:  # a probe is answered whatever is wrong
                log.exception("the state could not be read")
                report, status = {"status": "failed"}, 500
            headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
            return Response(json.dumps(report, allow_nan=False), status, headers, "application/json")

        app.router.routes.insert(0, Route(ADDRESS, answer, methods=["GET"]))
        async with inner(app):
            yield

    return with_health
