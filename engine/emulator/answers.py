"""The API's answers, with the exact wording of its document where that gives one.

Statuses, `type`s and messages are the API's. Where it documents none (a field of the wrong type,
a forbidden character), the wording is the emulator's own.
"""

from dataclasses import dataclass

import orjson

JSON = "application/json"
HTML = "text/html"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    body: bytes
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that refuses a request."""

    status: int
    type: str
    message: str
    breach: str | None
    """The client's error as the report counts it; None if the client made no error."""
    attribute: str | None = None
    """The field at fault, when the API names one."""

    def answer(self, request_id: str) -> Answer:
        """Return the answer with the API's error body."""
        error = {} if self.attribute is None else {"attribute": self.attribute}
        error |= {"message": self.message, "type": self.type, "request_id": request_id}
        body = orjson.dumps({"status": "fail", "error": error})
        return Answer(self.status, body)


ACCEPTED = Answer(
    200,
    b'{"status":"success","message":"Your request has been accepted and will be processed soon."}',
)
LYING = Answer(200, b'{"status":"fail","message":"Your request could not be processed."}')
PARTIAL = Answer(200, ACCEPTED.body[: len(ACCEPTED.body) // 2])
WEB_PAGE = Answer(200, b"<!doctype html><title>Welcome</title><p>It works.</p>\n", HTML)

NO_AUTHORIZATION = Refusal(
    401, "Authentication required", "Authentication Header Required", "authorization_missing"
)
KEY_MISMATCH = Refusal(
    401,
    "Authentication required",
    "App Secret key mismatch. Please login to the dashboard to verify key",
    "key_mismatch",
)
APP_KEY_MISMATCH = Refusal(
    401,
    "Authentication Mismatch",
    "App key mismatch in params and authentication",
    "app_key_mismatch",
)
BLOCKED = Refusal(
    403,
    "BlockedClient",
    "Your account is suspended. Please contact MoEngage team.",
    None,
)
NOT_FOUND = Refusal(404, "Not Found", "There is nothing at this address.", "wrong_address")
WRONG_METHOD = Refusal(
    405, "Method Not Allowed", "Only POST is allowed at this address.", "wrong_method"
)
TOO_LARGE = Refusal(413, "Payload too large", "Payload can not exceed 128KB", "over_size")
WRONG_MEDIA_TYPE = Refusal(
    415, "Unsupported media type", "Content type is not supported", "media_type"
)
THROTTLED = Refusal(
    429,
    "Rate Limits Exceeded",
    "Rate limits for customers exceeded. Please Try After Some Time",
    None,
)
SERVER_ERROR = Refusal(
    500,
    "Server Error",
    "An unexpected error was encountered while processing this request. "
    "Please contact MoEngage Team",
    None,
)
MALFORMED = Refusal(
    400,
    "Malformed JSON",
    "Could not decode the request body. The JSON was incorrect or not encoded as UTF-8.",
    "malformed_json",
)
POISONED = Refusal(400, "InvalidAttributeError", "uid is not valid", None, "uid")
POISONED_UNNAMED = Refusal(400, "InvalidRequestError", "The payload is not valid", None)


def missing(attribute: str) -> Refusal:
    """Refuse a request that lacks a required field."""
    message = f"{attribute} is not found in the payload"
    return Refusal(400, "MissingAttributeError", message, f"missing_{attribute}", attribute)


def invalid(attribute: str, demand: str) -> Refusal:
    """Refuse a request whose field does not meet a demand, such as "must be a string"."""
    message = f"{attribute} {demand}"
    return Refusal(400, "InvalidAttributeError", message, f"invalid_{attribute}", attribute)


def gateway_page(status: int, reason: str) -> Answer:
    """Return the answer of a proxy in front of the API: a page, not the API's JSON."""
    page = f"<html><head><title>{status} {reason}</title></head><body>{reason}</body></html>\n"
    return Answer(status, page.encode(), HTML)
