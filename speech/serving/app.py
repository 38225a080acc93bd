"""The application: page, API, error responses, and the OpenAPI document."""

import os
import sqlite3
from typing import Any

from absl import logging
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from speech.recordings.store import DatabaseGoneError
from speech.serving.connections import LOG_SECONDS
from speech.serving.errors import RequestError
from speech.serving.http import Front, problem
from speech.serving.keys import ApiKeys
from speech.serving.routers import (
    openai,
    recordings,
    sagemaker,
    streams,
    test_sets,
    transcription,
    vosk,
)
from speech.serving.schemas import requests
from speech.serving.service import Service
from speech.serving.services.recordings import DATABASE_FAILED
from speech.serving.settings import ServerSettings

WEB = os.path.join(os.path.dirname(__file__), "web")


def create_app(service: Service, settings: ServerSettings, keys: ApiKeys) -> ASGIApp:
    """Returns the server's application; `service` ends with it.

    Args:
        keys: those that requests must carry.
    """
    app = FastAPI(
        title="Deep Speech",
        version="1",
        description="Speech to text.",
        docs_url=None,  # they load scripts from other servers
        redoc_url=None,
        lifespan=service.lifespan,
    )
    _handle_errors(app)
    _add_page(app)
    for each in (transcription, test_sets, sagemaker, streams, openai, vosk):
        app.include_router(each.router(service))
    if service.recordings:
        app.include_router(recordings.router(service, service.recordings))
    _describe(app)
    return Front(app, service.metrics, settings.host_names, keys)


def _handle_errors(app: FastAPI) -> None:
    """Makes the body of every refusal what `problem` returns."""

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> JSONResponse:
        return problem(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def refuse_values(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(request.scope, RequestError(400, requests.sentence(error.errors())))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        path = requests.format_value(request.url.path)
        messages = {
            404: f"{path} does not exist. See /openapi.json for the available endpoints.",
            405: f"{path} does not support {request.method}. See /openapi.json for its methods.",
        }
        message = messages.get(error.status_code, f"{request.method} {path}: {error.detail}.")
        return problem(request.scope, RequestError(error.status_code, message), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def end(request: Request, error: ClientDisconnect) -> JSONResponse:
        cut_off = RequestError(400, "The upload was cut off: send it whole.")
        return problem(request.scope, cut_off)  # nobody reads it

    @app.exception_handler(sqlite3.OperationalError)
    async def refuse_writing(request: Request, error: sqlite3.OperationalError) -> JSONResponse:
        return problem(request.scope, RequestError(507, DATABASE_FAILED))

    @app.exception_handler(DatabaseGoneError)
    async def refuse_storing(request: Request, error: DatabaseGoneError) -> JSONResponse:
        logging.log_every_n_seconds(logging.ERROR, "%s", LOG_SECONDS, error)
        return problem(request.scope, RequestError(500, str(error)))

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        failed = RequestError(500, "The server failed. See its log for the reason.")
        return problem(request.scope, failed)


def _add_page(app: FastAPI) -> None:
    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(os.path.join(WEB, "index.html"), headers={"cache-control": "no-cache"})

    app.mount("/static", StaticFiles(directory=WEB), name="static")


def _describe(app: FastAPI) -> None:
    """Removes FastAPI's own refusals from /openapi.json: here they are 400 and {"error"}."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schemas = schema.get("components", {}).get("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation does
