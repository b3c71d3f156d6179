"""What Amazon Bedrock's errors mean.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html#API_runtime_InvokeModel_Errors
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from embedfleet_workers.embedders.api.providers.adapter import (
    Faulty,
    RateLimited,
    Rejected,
    Reply,
    TooLarge,
)
from embedfleet_workers.embedders.api.providers.error_replies import DAILY_WAIT_S
from embedfleet_workers.embedders.api.providers.headers import retry_after
from embedfleet_workers.stop import Stop

_LONGEST_REASON = 300
_WAITS = frozenset(
    {"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException"}
)
# No waiting cures these: a key that is wrong or over, an account that may not.
_STOPS = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
# A model that is being loaded answers 429, too: that is about no rate.
_LOADING = "ModelNotReadyException"
_DAILY = re.compile(r"per day|daily", re.IGNORECASE)
_NO_SUCH_MODEL = re.compile(
    r"model identifier is invalid"
    r"|on-demand throughput isn.t supported"
    r"|model (?:ID|version) .*(?:not found|not supported|end of (?:its )?life)",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"maxItems|expected maximum item count|number of texts must be at most|total number of texts",
    re.IGNORECASE,
)
# An identity, a resource: they name an account.
_ARN = re.compile(r"arn:aws[\w-]*:\S+", re.IGNORECASE)


def refusal(error: Any) -> Reply:  # noqa: ANN401 - botocore's ClientError or BotoCoreError
    """The reply that an exception of the official client stands for."""
    said = getattr(error, "response", None)
    if not isinstance(said, dict):
        return _unsent(type(error).__name__)
    code = str(said.get("Error", {}).get("Code") or "")
    message = str(said.get("Error", {}).get("Message") or "")
    metadata = said.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    if code in _WAITS or (status == HTTPStatus.TOO_MANY_REQUESTS and code != _LOADING):
        wait_s = retry_after(metadata.get("HTTPHeaders") or {})
        return RateLimited(max(wait_s or 0.0, DAILY_WAIT_S) if _DAILY.search(message) else wait_s)
    return _stop(code, status, message) or _other(code, status, message)


def _stop(code: str, status: int, message: str) -> Stop | None:
    said = _answered(status, code)
    if code in _STOPS or status == HTTPStatus.UNAUTHORIZED:
        return Stop(code or "http_401", said)
    if code == "AccessDeniedException" or status == HTTPStatus.FORBIDDEN:
        # Of this model: others of the account may be allowed.
        return Stop(code or "http_403", said, whole_account=False)
    unknown = code == "ValidationException" and _NO_SUCH_MODEL.search(message)
    if unknown or status == HTTPStatus.NOT_FOUND:
        return Stop("model_not_found", said, whole_account=False)
    return None


def _other(code: str, status: int, message: str) -> Reply:
    if code == "ValidationException" or status == HTTPStatus.BAD_REQUEST:
        reason = f"{_answered(status, code)}: {_shortened(message)}"
        return TooLarge(reason) if _TOO_LARGE.search(message) else Rejected(reason)
    return Faulty(_answered(status, code))


def _unsent(name: str) -> Reply:
    """Nothing was answered: the credentials are missing or over, or the connection failed."""
    if "Credential" in name or "Token" in name or name.startswith(("SSO", "Unauthorized")):
        return Stop("no_credentials", f"its client found no usable credentials ({name})")
    if name == "ParamValidationError":
        return Rejected(f"its client refuses the request ({name})")
    return Faulty(f"the connection failed ({name})")


def _answered(status: int, code: str) -> str:
    return f"it answered {status} ({code})" if code else f"it answered {status}"


def _shortened(message: str) -> str:
    plain = _ARN.sub("arn:...", message)
    return plain if len(plain) <= _LONGEST_REASON else f"{plain[:_LONGEST_REASON]}..."
