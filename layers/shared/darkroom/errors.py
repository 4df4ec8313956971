"""The error tree: every failure that a caller can see, by what it is about. `darkroom.problem` says what each is."""

from __future__ import annotations

from darkroom.problem import DarkroomError as DarkroomError
from darkroom.problem import Problem as Problem

# ---- the request itself -------------------------------------------------------------------------------------------


class RequestError(DarkroomError):
    """The caller must change the request."""

    status = 422


class MalformedJson(RequestError):
    code, status, title = "malformed_json", 400, "The body is not valid JSON"


class MalformedForm(RequestError):
    code, status, title = "malformed_form", 400, "The body is not a valid form"


class JsonTooDeep(RequestError):
    code, status, title = "json_too_deep", 400, "The body is nested too deeply"


class DuplicateKey(RequestError):
    code, status, title = "duplicate_key", 400, "A member occurs twice"


class UnsupportedMediaType(RequestError):
    code, status, title = "unsupported_media_type", 415, "Send the body as application/json"


class PayloadTooLarge(RequestError):
    code, status, title = "payload_too_large", 413, "The body is too large"


class InvalidParameter(RequestError):
    code, title = "invalid_parameter", "A parameter is not valid"


class InvalidType(RequestError):
    code, title = "invalid_type", "A parameter has the wrong type"


class UnknownField(RequestError):
    code, title = "unknown_field", "The request has a member we do not know"


class NotFinite(RequestError):
    code, title = "not_finite", "A number must be finite"


class InvalidUnicode(RequestError):
    code, title = "invalid_unicode", "Text must be valid Unicode without NUL"


class PromptTooLong(RequestError):
    code, title = "prompt_too_long", "The prompt is too long"


class OutOfRange(RequestError):
    code, title = "out_of_range", "A number is out of range"


class InvalidDimensions(RequestError):
    code, title = "invalid_dimensions", "The image size cannot be made"


class InvalidBase64(RequestError):
    code, title = "invalid_base64", "This is not base64"


class ImageSourceConflict(RequestError):
    code, title = "image_source_conflict", "The image must come from exactly one source"


class ImageUrlRejected(RequestError):
    code, title = "image_url_rejected", "This URL is not fetched"


class ImageFetchFailed(RequestError):
    code, title, retryable = "image_fetch_failed", "The URL's server did not answer with an image", True


class ImageFetchTimeout(RequestError):
    code, title, retryable = "image_fetch_timeout", "The image took too long to arrive", True


class ImageTooLarge(RequestError):
    code, title = "image_too_large", "The image is too large"


class ImageInvalid(RequestError):
    code, title = "image_invalid", "The image cannot be read"


class ImageFormatUnsupported(RequestError):
    code, title = "image_format_unsupported", "Send a PNG, JPEG or WebP image"


class ImageAnimated(RequestError):
    code, title = "image_animated", "Send an image of one frame"


class UploadNotFound(RequestError):
    code, title = "upload_not_found", "There is no such upload"


class UploadExists(RequestError):
    code, status, title = "upload_exists", 409, "This upload has been sent, or is being sent; ask for another place"


class InvalidPolicy(RequestError):
    code, title = "invalid_policy", "The scaling policy cannot be followed"


class PreconditionFailed(RequestError):
    code, status, title = "precondition_failed", 412, "It has changed since you read it"


class NothingToRollBack(RequestError):
    code, status, title = "nothing_to_roll_back", 409, "There is no version to go back to"


class IdempotencyKeyReused(RequestError):
    code, title = "idempotency_key_reused", "The idempotency key was used with another request"


class IdempotencyInProgress(RequestError):
    code, status, title = "idempotency_in_progress", 409, "The first request with this idempotency key still runs"
    retryable = True


class JobFinished(RequestError):
    code, status, title = "job_finished", 409, "The job has already finished"


class JobUnfinished(RequestError):
    code, status, title, retryable = "job_unfinished", 409, "The job has not finished", True


class JobCancelled(RequestError):
    code, status, title = "job_cancelled", 409, "The job was cancelled"


class Unauthorized(RequestError):
    code, status, title = "unauthorized", 401, "An API key is needed"


class Forbidden(RequestError):
    code, status, title = "forbidden", 403, "The signature is wrong or has expired"


class AdministratorNeeded(RequestError):
    code, status, title = "administrator_needed", 403, "Only an administrator may do this"


class OriginNotAllowed(RequestError):
    code, status, title = "origin_not_allowed", 403, "Pages of that origin may not do this"


class HostNotAllowed(RequestError):
    code, status, title = "host_not_allowed", 421, "This deployment does not go by that name"


class NotFound(RequestError):
    code, status, title = "not_found", 404, "There is nothing here"


class ModelNotFound(NotFound):
    code, title = "model_not_found", "There is no such model"


class JobNotFound(NotFound):
    code, title = "job_not_found", "There is no such job"


class PolicyNotFound(NotFound):
    code, title = "policy_not_found", "This model has no scaling policy"


class ReleaseNotFound(NotFound):
    code, title = "release_not_found", "There is no release of this model"


class MethodNotAllowed(RequestError):
    code, status, title = "method_not_allowed", 405, "This address does not take that method"


class MalformedRequest(RequestError):
    code, status, title = "malformed_request", 400, "This is not an HTTP request we can read"


class RangeNotSatisfiable(RequestError):
    code, status, title = "range_not_satisfiable", 416, "The object has no such range"


class RequestHeadersTooLarge(RequestError):
    code, status, title = "headers_too_large", 431, "The request's headers are too large"


class RequestTimeout(RequestError):
    code, status, title, retryable = "request_timeout", 408, "The request took too long to arrive", True


# ---- load ---------------------------------------------------------------------------------------------------------


class Overloaded(DarkroomError):
    code, status, title, retryable = "overloaded", 503, "All places in the queue are taken", True


class RateLimited(DarkroomError):
    code, status, title, retryable = "rate_limited", 429, "You have more under way or in store than is your share", True


class Draining(DarkroomError):
    code, status, title, retryable = "draining", 503, "This replica is shutting down", True


class DeadlineExceeded(DarkroomError):
    code, status, title, retryable = "deadline_exceeded", 504, "The deadline passed before the image was made", True


class StillAtWork(DarkroomError):
    code, status, title = "still_at_work", 504, "The image is not made yet"


class AccessUnavailable(DarkroomError):
    code, status, title, retryable = "access_unavailable", 503, "Who you are cannot be checked right now", True


# ---- generation ---------------------------------------------------------------------------------------------------


class OutOfMemory(DarkroomError):
    code, status, title, retryable = "out_of_memory", 503, "There was not enough memory for this image", True


class GenerationInvalid(DarkroomError):
    code, status, title = "generation_invalid", 500, "The engine produced numbers that are not an image"


class GenerationFailed(DarkroomError):
    code, status, title, retryable = "generation_failed", 503, "The engine failed on this request", True


class Poisoned(DarkroomError):
    code, status, title = "poisoned", 500, "Every attempt at this request failed"


class RuntimeUnavailable(DarkroomError):
    code, status, title, retryable = "runtime_unavailable", 503, "No runtime can be reached", True


class Unreadable(DarkroomError):
    """Another release wrote it, or its record is damaged."""

    code, status, title, retryable = "unreadable", 500, "What was stored of it cannot be read here", True


# ---- storage and engines ------------------------------------------------------------------------------------------


class ImageNotFound(NotFound):
    code, title = "image_not_found", "There is no such image"


class ObjectNotFound(NotFound):
    code, title = "object_not_found", "There is no such object"


class ObjectTooLarge(DarkroomError):
    code, status, title = "object_too_large", 413, "The object is larger than is read at once"


class StorageUnavailable(DarkroomError):
    code, status, title, retryable = "storage_unavailable", 503, "The object store does not answer", True


class StorageFull(DarkroomError):
    code, status, title, retryable = "storage_full", 503, "The object store is full", True


class JobStoreUnavailable(DarkroomError):
    code, status, title, retryable = "job_store_unavailable", 503, "The job store does not answer", True


class EngineIntegrity(DarkroomError):
    code, status, title = "engine_integrity", 503, "An engine file is not what its manifest says"


class EngineIncompatible(DarkroomError):
    code, status, title = "engine_incompatible", 503, "No engine in the bundle fits this machine"
