"""`shipper setup` for the s3 output: the bucket's lifecycle rules. Touches no rule that it did not make."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shipper.errors import ShipperError
from shipper.outputs.s3.api import S3Api
from shipper.outputs.s3.config import LifecycleConfig, S3Config
from shipper.outputs.s3.lifecycle import Rule, differences, merged_rules, refuse_to_weaken, wanted_rules, warnings
from shipper.outputs.s3.trouble import S3Error, Trouble

RIGHTS = ("s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration")


async def setup(config: S3Config, outputs: Iterable[S3Config], *, dry_run: bool) -> list[str]:
    """Sets what `lifecycle` asks for; what was done (or would be), as lines for a person. `outputs`: all of s3.

    Raises ShipperError when that is not allowed, or would weaken what somebody else has set: then nothing is changed.
    """
    if config.lifecycle is None:
        return []
    _refuse_shared_lists(config, outputs)
    api = RulesApi(config, lambda _status: None)
    try:
        return await _setup(api, config, config.lifecycle, dry_run=dry_run)
    except S3Error as exc:
        sentence = "; ".join(filter(None, (exc.trouble.sentence, exc.trouble.mend)))
        raise ShipperError(f"the lifecycle rules of the bucket {config.bucket} cannot be set: {sentence}") from exc
    finally:
        await api.close()


class RulesApi(S3Api):
    """The lifecycle rules of a real bucket."""

    async def rules(self) -> tuple[list[Rule], dict[str, Any]]:
        """With what stands beside them, and must be given back with others."""
        try:
            async with self._setting() as client:
                answer = await client.get_bucket_lifecycle_configuration(Bucket=self._config.bucket)
        except S3Error as exc:
            if exc.code == "NoSuchLifecycleConfiguration":
                return [], {}
            raise
        size = answer.get("TransitionDefaultMinimumObjectSize")
        return answer["Rules"], {"TransitionDefaultMinimumObjectSize": size} if size else {}

    async def set_rules(self, rules: Sequence[Rule], beside: dict[str, Any]) -> None:
        """All of them: what is not among them is gone then."""
        async with self._setting() as client:
            await client.put_bucket_lifecycle_configuration(
                Bucket=self._config.bucket, LifecycleConfiguration={"Rules": list(rules)}, **beside
            )

    @asynccontextmanager
    async def _setting(self) -> AsyncIterator[Any]:
        try:
            async with self._requests() as client:
                yield client
        except S3Error as exc:
            raise S3Error(_explain(exc), code=exc.code, status=exc.status) from exc


async def _setup(api: RulesApi, config: S3Config, lifecycle: LifecycleConfig, *, dry_run: bool) -> list[str]:
    current, beside = await api.rules()
    wanted = wanted_rules(config, lifecycle)
    refuse_to_weaken(config, current, wanted)
    lines = differences(config, current, wanted)
    if lines and not dry_run:
        await api.set_rules(merged_rules(config, current, wanted), beside)
    done = f"lifecycle rules of the bucket {config.bucket}: "
    done += "as they should be" if not lines else "would be changed" if dry_run else "changed"
    return [done, *(f"  {line}" for line in lines), *warnings(config, current, wanted)]


def _refuse_shared_lists(config: S3Config, outputs: Iterable[S3Config]) -> None:
    """Lists of two outputs below one prefix would expire when those of the first may."""
    for other in outputs:
        is_shared = (other.bucket, other.manifest) == (config.bucket, config.manifest) and config.manifest is not None
        if is_shared and _expire(other) != _expire(config):
            raise ShipperError(
                f"outputs {config.name} and {other.name} have one manifest.prefix, but another lifecycle.expire: "
                "give each a prefix of its own"
            )


def _expire(config: S3Config) -> float | None:
    return config.lifecycle.expire if config.lifecycle else None


def _explain(exc: S3Error) -> Trouble:
    if exc.trouble.reason == "forbidden":
        return Trouble("forbidden", "no permission to see or set them", f"allow {' and '.join(RIGHTS)} on the bucket")
    if exc.status == 501:
        return Trouble("refused", "the server knows no such rules", "leave out of `lifecycle` what it does not know")
    return exc.trouble
