"""The authorization function that MLflow asks at every request; `auth.ini` names it.

MLflow calls it after its own routing, so the user is the one whose password it has checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from flask import Response, g, request
from mlflow.server.auth import authenticate_request_basic_auth
from mlflow.server.handlers import _get_model_registry_store, _get_tracking_store
from werkzeug.datastructures import Authorization

from fraud_mlflow import users

_OF_A_MODEL: Final = re.compile(r"/mlflow/(?:registered-models/alias|model-versions/\w[\w-]*)$")
_OF_A_RUN: Final = re.compile(r"/mlflow/runs/\w[\w-]*$")


def authenticate() -> Authorization | Response:
    """The log-in of the request, or the response that refuses it; MLflow's permissions are checked later.

    Raises:
        MlflowException: the model or run of the request does not exist.
    """
    login: Authorization | Response = authenticate_request_basic_auth()
    if isinstance(login, Response):
        return login
    name = str(login.username)
    granted = _rights().get(name)
    if not users.may(granted, request.method, request.path):
        sentence = f"The user {name} may not {request.method} {request.path}: see docs/mlflow.md."
        return Response(sentence, HTTPStatus.FORBIDDEN, mimetype="text/plain")
    # MLflow calls this function several times a request.
    if granted is not None and not g.get("fraud_exists"):
        _check_existence()
        g.fraud_exists = True
    return login


def _check_existence() -> None:
    """Let the stores raise what they raise for a model or run that does not exist.

    MLflow denies such a request, lest a user find out what exists. Our users may read everything, and clients
    distinguish a model that is not there yet from one that they may not read.
    """
    body = request.get_json(silent=True)
    parameters: Mapping[str, Any] = body if isinstance(body, dict) else request.args
    name, run_id = parameters.get("name"), parameters.get("run_id")
    if name and _OF_A_MODEL.search(request.path):
        models: Any = _get_model_registry_store()
        models.get_registered_model(name)
    if run_id and _OF_A_RUN.search(request.path):
        runs: Any = _get_tracking_store()
        runs.get_run(run_id)


@cache
def _rights() -> dict[str, users.Rights]:
    return users.rights(os.environ)
