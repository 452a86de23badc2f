"""Configuration of the s3 output."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import msgspec

from shipper.outputs.config import NAME, BatchConfig, OutputConfig
from shipper.outputs.s3.keys import fixed_folder
from shipper.template import NAMED, PLAIN, Template
from shipper.values import Doc, Flaw, Name, Placeholders, PositiveDuration, PositiveSize, Secret, Url

_DAY_S = 86400.0
_ENDINGS = {"gzip": ".gz", "zstd": ".zst"}
_PARQUET_ENDING = ".parquet"
PARQUET_MISSING = "Parquet takes pyarrow, which is not installed here: pip install 'shipper[parquet]'"

Key = Annotated[Template, Placeholders(PLAIN + NAMED, required="id")]


class S3AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One way of three: `access_key` and `secret_key`, `profile`, or `role_arn`."""

    access_key: Annotated[Secret | None, Doc("Access key id.")] = None
    secret_key: Annotated[Secret | None, Doc("Its secret.")] = None
    profile: Annotated[str | None, Doc("A profile of the SDK's own configuration files.")] = None
    role_arn: Annotated[str | None, Doc("A role to assume, with what the SDK's chain finds.")] = None

    def flaws(self) -> Iterator[Flaw]:
        if (self.access_key is None) != (self.secret_key is None):
            yield Flaw((), "access_key and secret_key go together")
        if sum(way is not None for way in (self.access_key, self.profile, self.role_arn)) != 1:
            yield Flaw((), "takes one of access_key with secret_key, profile, and role_arn; or write auth: auto")


class S3KmsConfig(msgspec.Struct, frozen=True, kw_only=True):
    kms_key_id: Annotated[str, Doc("Id, ARN or alias of the key.")]


class ObjectConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: Annotated[PositiveSize, Doc("Compressed bytes at which an object is closed and uploaded.")] = 64 * 2**20
    max_age: Annotated[PositiveDuration, Doc("Age at which it is, however small it is.")] = 300.0


class ObjectLockConfig(msgspec.Struct, frozen=True, kw_only=True):
    """For an audit trail: nobody can change or delete an object before its time. The bucket must have been made so."""

    mode: Annotated[
        Literal["governance", "compliance"], Doc("`compliance`: not even the account's owner can lift the lock.")
    ]
    keep: Annotated[PositiveDuration, Doc("How long, from its upload on.")]


class ManifestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Lists of the objects of each node and hour, `<prefix><node>/<hour>.jsonl`, for `shipper audit --archive`."""

    prefix: Annotated[str, Doc("What their keys begin with.")] = "manifest/"

    def flaws(self) -> Iterator[Flaw]:
        if not self.prefix.endswith("/") or self.prefix.startswith("/"):
            yield Flaw(("prefix",), "ends in /, and does not begin with it")


class LifecycleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the bucket does by itself with archived objects, in whole days; `shipper setup` makes the rules."""

    glacier: Annotated[PositiveDuration | None, Doc("Age at which they go to the storage class GLACIER.")] = None
    deep_archive: Annotated[PositiveDuration | None, Doc("... and to DEEP_ARCHIVE.")] = None
    expire: Annotated[PositiveDuration | None, Doc("Age at which they are deleted. Default: never.")] = None
    abort_uploads: Annotated[PositiveDuration, Doc("Age at which what was not completed of an upload goes.")] = (
        7 * _DAY_S
    )

    def flaws(self) -> Iterator[Flaw]:
        names = ("glacier", "deep_archive", "expire")
        for name in (*names, "abort_uploads"):
            if (getattr(self, name) or 0) % _DAY_S:
                yield Flaw((name,), "S3 counts whole days: write 30d")
        given = [name for name in names if getattr(self, name) is not None]
        for sooner, later in pairwise(given):
            if getattr(self, sooner) >= getattr(self, later):
                yield Flaw((later,), f"must come after {sooner}")


class S3Config(OutputConfig, frozen=True, kw_only=True):
    """Objects of newline-delimited JSON or Parquet on S3 and servers like it, through a spool in `state_dir`."""

    kind: ClassVar[str] = "s3"
    name: Annotated[Name, NAME] = "s3"
    batch: Annotated[BatchConfig, Doc("What is appended to the spool at once.")] = BatchConfig(max_age=1.0)
    bucket: Annotated[str, Doc("Bucket.")]
    region: Annotated[str | None, Doc("Region; default: as the SDK finds it.")] = None
    endpoint: Annotated[Url | None, Doc("Of other S3 servers; addressed by path.")] = None
    auth: Annotated[
        Literal["auto"] | S3AuthConfig,
        Doc("`auto`: the SDK's chain (environment, web identity/IRSA, instance); or one way."),
    ] = "auto"
    key: Annotated[
        Key, Doc("Key of objects. `{id}` is fixed when the object is begun. The ending must agree with `compression`.")
    ] = Template.parse("logs/{time:%Y/%m/%d/%H}/{namespace}/{node}-{id}.ndjson.gz")
    format: Annotated[
        Literal["ndjson", "parquet"],
        Doc("`parquet`: a table, with `shipper[parquet]` installed; the key ends in `.parquet`."),
    ] = "ndjson"
    compression: Annotated[Literal["gzip", "zstd", "none"], Doc("Of objects; of Parquet's pages.")] = "gzip"
    object: Annotated[ObjectConfig, Doc("When an object is closed; records of one key prefix go together.")] = (
        ObjectConfig()
    )
    spool_limit: Annotated[
        PositiveSize, Doc("Bound of what waits on disk for its upload; when it is full, this output waits.")
    ] = 2**30
    ids: Annotated[bool, Doc('Each archived document begins with its `"_id"`, for replay.')] = True
    storage_class: Annotated[str, Doc("Storage class.")] = "STANDARD"
    sse: Annotated[
        Literal["AES256"] | S3KmsConfig | None, Doc("Encryption by the server: `AES256` or `{kms_key_id: ...}`.")
    ] = None
    checksum: Annotated[
        Literal["crc32", "crc32c", "sha256"],
        Doc("Sent with every object and part, checked by the server, and kept with the object."),
    ] = "crc32"
    acl: Annotated[
        Literal["private", "bucket-owner-read", "bucket-owner-full-control"] | None,
        Doc("Canned ACL of objects, for a bucket of another account. Default: none is sent."),
    ] = None
    object_lock: Annotated[ObjectLockConfig | None, Doc("Retention of each object, enforced by the server.")] = None
    tags: Annotated[dict[str, str], Doc("Tags of objects.")] = msgspec.field(default_factory=dict)
    manifest: Annotated[
        ManifestConfig | None, Doc("Lists what is archived, beside it, by node and hour; `off` for none.")
    ] = ManifestConfig()
    lifecycle: Annotated[
        LifecycleConfig | None, Doc("Rules of the bucket for what this output archives, made by `shipper setup`.")
    ] = None

    def flaws(self) -> Iterator[Flaw]:
        yield from self._flaws_of_parquet() if self.format == "parquet" else self._flaws_of_ending()
        if self.key.text.startswith("/"):
            yield Flaw(("key",), "a key does not begin with /")
        if self.lifecycle is not None:
            yield from self._flaws_of_lifecycle()
        if self.spool_limit < self.object.max_bytes:
            yield Flaw(("spool_limit",), "must hold at least one object: object.max_bytes is larger")

    def _flaws_of_lifecycle(self) -> Iterator[Flaw]:
        """Rules are for a prefix, and lists must stay readable as long as there is anything in them."""
        folder = fixed_folder(self.key)
        if not folder:
            yield Flaw(("lifecycle",), "takes a `key` that begins with a folder of its own, such as logs/")
        elif self.manifest is not None and self.manifest.prefix.startswith(folder):
            yield Flaw(
                ("manifest", "prefix"), f"must not stand below {folder}, where the rules of `lifecycle` are for objects"
            )

    def _flaws_of_parquet(self) -> Iterator[Flaw]:
        if find_spec("pyarrow") is None:
            yield Flaw(("format",), PARQUET_MISSING)
        if not self.key.text.endswith(_PARQUET_ENDING):
            yield Flaw(("key",), f"must end in {_PARQUET_ENDING}, since format is parquet")

    def _flaws_of_ending(self) -> Iterator[Flaw]:
        ending = _ENDINGS.get(self.compression, "")
        wrong = next((e for e in _ENDINGS.values() if self.key.text.endswith(e) and e != ending), "")
        if self.key.text.endswith(_PARQUET_ENDING):
            yield Flaw(("key",), f"ends in {_PARQUET_ENDING}, but format is ndjson: say format: parquet")
        elif wrong:
            advice = f"end it in {ending}" if ending else f"leave {wrong} out"
            yield Flaw(("key",), f"ends in {wrong}, but compression is {self.compression}: {advice}")
        elif not self.key.text.endswith(ending):
            yield Flaw(("key",), f"must end in {ending}, since compression is {self.compression}")
