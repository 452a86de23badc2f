"""`shipper check --online` for the s3 output: a small object is written wherever the archive will be, and deleted."""

from shipper.outputs.base import Finding
from shipper.outputs.s3.bucket import Bucket
from shipper.outputs.s3.config import S3Config
from shipper.outputs.s3.keys import fixed_folder, new_id
from shipper.outputs.s3.trouble import S3Error

PROBE = b"shipper check: this object may be deleted\n"


async def check_bucket(config: S3Config, bucket: Bucket, *, now: float) -> list[Finding]:
    """Writing needs the server, credentials, the bucket and the right; the answer says which of them is missing."""
    places = {"objects": fixed_folder(config.key)}
    if config.manifest is not None:
        places["lists of them"] = config.manifest.prefix
    findings: list[Finding] = []
    for what, folder in places.items():
        key = f"{folder}.shipper-check-{new_id(now)}"
        try:
            await bucket.put(key, PROBE)
        except S3Error as exc:
            sentence = f"{config.name}: {exc.trouble.sentence}"
            sentence += f" (the {what}, below {folder})" if findings else ""
            return [*findings, Finding(ok=False, what=sentence, mend=exc.trouble.mend)]
        if not findings:
            is_there = f"{config.name}: the bucket {config.bucket} is there, and the credentials are accepted"
            findings.append(Finding(ok=True, what=is_there))
        findings.append(Finding(ok=True, what=f"{config.name}: {what} can be written, as {key}"))
        findings += await _delete(config, bucket, key)
    return findings


async def _delete(config: S3Config, bucket: Bucket, key: str) -> list[Finding]:
    """A finding only where the probe stays."""
    try:
        await bucket.delete(key)
    except S3Error as exc:
        what = f"{config.name}: the probe {key} stays, since deleting is not permitted; archiving does not need it"
        return [Finding(ok=True, what=what, mend=f"delete it by hand if it disturbs ({exc.trouble.sentence})")]
    return []
