"""Each trouble is one clear sentence, with a way to mend it."""

import pytest

from shipper.outputs.s3.config import ObjectLockConfig, S3Config, S3KmsConfig
from shipper.outputs.s3.trouble import explain, needed_rights

CONFIG = S3Config(bucket="logs")


@pytest.mark.parametrize(
    ("code", "status", "reason", "sentence"),
    [
        ("NoSuchBucket", 404, "bucket", "the bucket logs does not exist"),
        ("InvalidAccessKeyId", 403, "credentials", "the access key is unknown to the server"),
        ("SignatureDoesNotMatch", 403, "credentials", "the secret key does not belong to the access key"),
        ("ExpiredToken", 400, "credentials", "the credentials have expired"),
        ("AccessDenied", 403, "forbidden", "no permission to write to the bucket logs: details"),
        ("", 403, "forbidden", "no permission to write to the bucket logs: details"),
        ("RequestTimeTooSkewed", 403, "clock", "this node's clock differs too much from the server's"),
        ("PermanentRedirect", 301, "region", "the bucket logs is in another region: details"),
        ("KMS.NotFoundException", 400, "forbidden", "the KMS key cannot be used: details"),
        ("SlowDown", 503, "throttled", "the server asks for fewer requests (SlowDown)"),
        ("", 429, "throttled", "the server asks for fewer requests (429)"),
        ("AccessControlListNotSupported", 400, "refused", "the bucket logs takes no ACLs: it owns all objects"),
        ("InternalError", 500, "server", "the server failed with 500 (InternalError): details"),
        ("InvalidStorageClass", 400, "refused", "the server refused with 400 (InvalidStorageClass): details"),
    ],
)
def test_what_people_read(code: str, status: int, reason: str, sentence: str) -> None:
    trouble = explain(CONFIG, code, status, "details")
    assert (trouble.reason, trouble.sentence) == (reason, sentence)
    assert trouble.mend or reason in ("throttled", "server")


def test_rights_are_those_that_the_configuration_needs() -> None:
    assert needed_rights(CONFIG) == ["s3:PutObject", "s3:AbortMultipartUpload"]
    full = S3Config(bucket="logs", tags={"a": "b"}, sse=S3KmsConfig(kms_key_id="k"))
    locked = S3Config(bucket="logs", acl="private", object_lock=ObjectLockConfig(mode="governance", keep=1.0))
    assert set(needed_rights(locked)) >= {"s3:PutObjectAcl", "s3:PutObjectRetention"}
    assert set(needed_rights(full)) >= {"s3:PutObjectTagging", "kms:GenerateDataKey"}
