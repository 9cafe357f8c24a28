"""The authorization function that MLflow asks at every request; `auth.ini` names it.

MLflow calls it after its own routing, so the user is the one whose password it has checked.
"""

from __future__ import annotations

import os
from functools import cache
from http import HTTPStatus

from flask import Response, request
from mlflow.server.auth import authenticate_request_basic_auth
from werkzeug.datastructures import Authorization

from fraud_mlflow import users


def authenticate() -> Authorization | Response:
    """The log-in of the request, or the response that refuses it; MLflow's permissions are checked later."""
    login: Authorization | Response = authenticate_request_basic_auth()
    if isinstance(login, Response):
        return login
    name = str(login.username)
    if users.may(_rights().get(name), request.method, request.path):
        return login
    sentence = f"The user {name} may not {request.method} {request.path}: see docs/mlflow.md."
    return Response(sentence, HTTPStatus.FORBIDDEN, mimetype="text/plain")


@cache
def _rights() -> dict[str, users.Rights]:
    return users.rights(os.environ)
