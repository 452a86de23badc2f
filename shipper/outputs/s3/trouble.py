"""What went wrong at the destination, as one sentence and a way to mend it. Pure: no SDK in sight.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and what moto and SeaweedFS answered.
"""

from typing import NamedTuple

from shipper.errors import ShipperError
from shipper.outputs.s3.config import S3Config, S3KmsConfig

CREDENTIALS = "credentials"
THROTTLED = "throttled"


class Trouble(NamedTuple):
    reason: str  # metric label, of few kinds
    sentence: str
    mend: str = ""


class S3Error(ShipperError):
    """A request did not do what it should. `status` is None when no answer came."""

    def __init__(self, trouble: Trouble, *, code: str = "", status: int | None = None, delay_s: float = 0.0) -> None:
        super().__init__(trouble.sentence)
        self.trouble = trouble
        self.code = code
        self.status = status
        self.delay_s = delay_s  # the server's own wish (Retry-After)


class AlreadyThere(S3Error):
    """412: an object has this key."""


class NoSuchUpload(S3Error):
    """404: the multipart upload was completed, aborted or never begun."""


_BAD_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is unknown to the server",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "TokenRefreshRequired": "the session token must be refreshed",
    "InvalidClientTokenId": "the access key is unknown to the server",
    "UnrecognizedClientException": "the access key is unknown to the server",
}
_OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_THROTTLED = {
    "SlowDown",
    "ServiceUnavailable",
    "TooManyRequests",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
}


def explain(config: S3Config, code: str, status: int, message: str) -> Trouble:
    """An answer that is an error."""
    if code in _BAD_CREDENTIALS:
        return Trouble(CREDENTIALS, _BAD_CREDENTIALS[code], "correct `auth`, or what the SDK's chain finds")
    if code == "RequestTimeTooSkewed":
        return Trouble("clock", "this node's clock differs too much from the server's", "synchronize the node's clock")
    if code == "NoSuchBucket":
        return Trouble("bucket", f"the bucket {config.bucket} does not exist", "create it, or correct `bucket`")
    if code in _OTHER_REGION or status in (301, 307):
        return Trouble("region", f"the bucket {config.bucket} is in another region: {message}", "correct `region`")
    if code.startswith("KMS."):
        return Trouble("forbidden", f"the KMS key cannot be used: {message}", "correct `sse`, or allow the key's use")
    if code == "AccessControlListNotSupported":
        return Trouble("refused", f"the bucket {config.bucket} takes no ACLs: it owns all objects", "leave `acl` out")
    if config.object_lock is not None and code in ("InvalidRequest", "ObjectLockConfigurationNotFoundError"):
        sentence = f"the bucket {config.bucket} takes no locked objects: {message}"
        return Trouble("bucket", sentence, "make one with object lock, or leave `object_lock` out")
    if code in ("AccessDenied", "AllAccessDisabled", "AccountProblem") or status == 403:
        sentence = f"no permission to write to the bucket {config.bucket}: {message or code}"
        where = "the objects of `key`" + (" and below `manifest.prefix`" if config.manifest else "")
        return Trouble("forbidden", sentence, f"allow {', '.join(needed_rights(config))} on {where}")
    if code in _THROTTLED or status in (429, 503):
        return Trouble(THROTTLED, f"the server asks for fewer requests ({code or status})")
    if status >= 500:
        return Trouble("server", f"the server failed with {status} ({code}): {message}")
    return Trouble("refused", f"the server refused with {status} ({code}): {message}", "see the server's documentation")


def needed_rights(config: S3Config) -> list[str]:
    """The IAM actions that this configuration takes."""
    rights = ["s3:PutObject", "s3:AbortMultipartUpload"]
    if config.tags:
        rights.append("s3:PutObjectTagging")
    if config.acl is not None:
        rights.append("s3:PutObjectAcl")
    if config.object_lock is not None:
        rights.append("s3:PutObjectRetention")
    if isinstance(config.sse, S3KmsConfig):
        rights += ["kms:GenerateDataKey", "kms:Decrypt"]
    return rights
