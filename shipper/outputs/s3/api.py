"""The only module that talks to S3, by the SDK. Errors of the SDK become `trouble.S3Error` here.

No retries of the SDK's own: what is tried again, and when, is decided in `uploads`. Every object carries a checksum
that the server checks, where it can.
"""

import asyncio
import datetime as dt
import io
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from shipper.outputs.s3.checksum import FIELDS, checksum_of, checksum_of_parts
from shipper.outputs.s3.compression import CODECS, PARQUET_TYPE
from shipper.outputs.s3.config import S3AuthConfig, S3Config
from shipper.outputs.s3.sdk_data import LeanLoader
from shipper.outputs.s3.trouble import CREDENTIALS, AlreadyThere, NoSuchUpload, S3Error, Trouble, explain
from shipper.sockets import make_socket

CONNECT_TIMEOUT_S = 10
MANIFEST_TYPE = "application/x-ndjson"
READ_TIMEOUT_S = 60  # for a part of 5 MiB the server's answer, after the last byte
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, CredentialRetrievalError)
_MODELS = (("s3", "service-2"), ("s3", "endpoint-rule-set-1"))

_Request = Callable[[Any, Mapping[str, str]], Awaitable[Any]]  # client, condition -> answer


class Sent(io.BytesIO):
    """A body. aiohttp asks for its buffer, only to learn its size; for that, BytesIO would copy all of it."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._body = body

    def getbuffer(self) -> memoryview:
        return memoryview(self._body)


class S3Api:
    """The `Bucket` of a real server. The client is made when it is first needed.

    `count` is told the status of each request: a code, `timeout` or `error`.
    """

    def __init__(self, config: S3Config, count: Callable[[str], None]) -> None:
        self._config = config
        self._count = count
        self._client: Any = None
        self._stack = AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._conditional = True  # until the server says that it does not know If-None-Match
        self._checksum_field = FIELDS[config.checksum]
        self._object_options = _object_options(config)

    async def put(self, key: str, body: bytes) -> str:
        checksum = await self._checksum(body)
        await self._request_if_absent(self._putting(key, body, {**checksum, **self._options()}))
        return self._told(checksum[self._checksum_field])

    async def put_manifest(self, key: str, body: bytes, *, replace: bool) -> None:
        options = {**await self._checksum(body), **self._options(), "ContentType": MANIFEST_TYPE}
        options.pop("StorageClass", None)  # it is written often, and read when an audit is due
        request = self._putting(key, body, options)
        await (self._request({}, request) if replace else self._request_if_absent(request))

    def _putting(self, key: str, body: bytes, options: Mapping[str, Any]) -> _Request:
        async def put_object(client: Any, condition: Mapping[str, str]) -> Any:
            return await client.put_object(
                **self._object(key),
                Body=Sent(body),
                ChecksumAlgorithm=self._config.checksum.upper(),
                **options,
                **condition,
            )

        return put_object

    async def begin_upload(self, key: str) -> str:
        async with self._requests() as client:
            answer = await client.create_multipart_upload(
                **self._object(key), ChecksumAlgorithm=self._config.checksum.upper(), **self._options()
            )
            return _required(answer, "UploadId")

    async def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> dict[str, Any]:
        checksum = await self._checksum(body)
        async with self._requests() as client:
            answer = await client.upload_part(
                **self._object(key), UploadId=upload_id, PartNumber=number, Body=Sent(body), **checksum
            )
            return {"PartNumber": number, "ETag": _required(answer, "ETag"), **checksum}

    async def complete_upload(self, key: str, upload_id: str, parts: list[dict[str, Any]]) -> str:
        async def complete(client: Any, condition: Mapping[str, str]) -> Any:
            return await client.complete_multipart_upload(
                **self._object(key), UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
            )

        await self._request_if_absent(complete)
        checksums = [part[self._checksum_field] for part in parts]
        return self._told(await asyncio.to_thread(checksum_of_parts, self._config.checksum, checksums))

    async def abort_upload(self, key: str, upload_id: str) -> None:
        try:
            async with self._requests() as client:
                await client.abort_multipart_upload(**self._object(key), UploadId=upload_id)
        except NoSuchUpload:
            return

    async def delete(self, key: str) -> None:
        async with self._requests() as client:
            await client.delete_object(**self._object(key))

    async def close(self) -> None:
        async with self._connecting:
            self._client = None
            await self._stack.aclose()

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._config.bucket, "Key": key}

    def _options(self) -> dict[str, Any]:
        """What an object that is made now is made with."""
        lock = self._config.object_lock
        if lock is None:
            return self._object_options
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lock.keep)
        return {**self._object_options, "ObjectLockMode": lock.mode.upper(), "ObjectLockRetainUntilDate": until}

    async def _checksum(self, body: bytes) -> dict[str, str]:
        return {self._checksum_field: await asyncio.to_thread(checksum_of, self._config.checksum, body)}

    def _told(self, checksum: str) -> str:
        return f"{self._config.checksum}:{checksum}"

    async def _request_if_absent(self, request: _Request) -> None:
        condition = {"IfNoneMatch": "*"} if self._conditional else {}
        try:
            await self._request(condition, request)
        except S3Error as exc:
            if not condition or exc.status != 501:
                raise
            self._conditional = False
            await self._request_if_absent(request)

    async def _request(self, condition: Mapping[str, str], request: _Request) -> None:
        async with self._requests() as client:
            _required(await request(client, condition), "ETag")

    @asynccontextmanager
    async def _requests(self) -> AsyncIterator[Any]:
        """The client for one request, which is counted; every way to fail becomes an S3Error."""
        try:
            yield await self._connect()
        except ClientError as exc:
            error = _judge(self._config, exc.response)
            self._count(str(error.status))
            if error.trouble.reason == CREDENTIALS:
                await self._forget_credentials()
            raise error from exc
        except S3Error:
            self._count("error")
            raise
        except (BotoCoreError, ResponseParserError, aiohttp.ClientError, OSError) as exc:
            trouble = _no_answer(self._config, exc)
            self._count("timeout" if trouble.reason == "timeout" else "error")
            if trouble.reason == CREDENTIALS:
                await self._forget_credentials()
            raise S3Error(trouble) from exc
        else:
            self._count("200")

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._client is None:
                session = await _session(self._config)
                client = session.create_client(
                    "s3",
                    region_name=self._config.region,
                    endpoint_url=self._config.endpoint,
                    verify=None if needs_certificates(self._config.endpoint) else False,
                    config=_client_config(self._config),
                )
                self._client = await self._stack.enter_async_context(client)
            return self._client

    async def _forget_credentials(self) -> None:
        """The next request reads secrets from their files, and asks the SDK's chain, once more."""
        auth = self._config.auth
        if isinstance(auth, S3AuthConfig):
            for secret in (auth.access_key, auth.secret_key):
                if secret is not None:
                    await asyncio.to_thread(secret.reload)
        await self.close()


def needs_certificates(endpoint: str | None) -> bool:
    """All that this machine trusts are read for a client, in 50 ms: not where no connection will be encrypted."""
    return endpoint is None or urllib.parse.urlsplit(endpoint).scheme != "http" or bool(urllib.request.getproxies())


def _client_config(config: S3Config) -> AioConfig:
    return AioConfig(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",  # ours is given with each request; other servers know no trailers
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if config.endpoint else "auto"},
        connector_args={"socket_factory": make_socket},
    )


async def _session(config: S3Config) -> AioSession:
    """Raises botocore's errors when a profile or credentials are not to be found."""
    auth, loader = config.auth, await asyncio.to_thread(_load_models)
    if not isinstance(auth, S3AuthConfig):
        return _new_session(loader)
    if auth.role_arn is not None:
        return await _session_of_role(auth.role_arn, loader)
    session = _new_session(loader, auth.profile)
    if auth.access_key is not None and auth.secret_key is not None:
        session.set_credentials(auth.access_key.get(), auth.secret_key.get())
    return session


def _new_session(loader: LeanLoader, profile: str | None = None) -> AioSession:
    session = AioSession(profile=profile)
    session.register_component("data_loader", loader)
    return session


def _load_models() -> LeanLoader:
    """Reads megabytes of JSON, which would else happen on the event loop; what was read stays with the loader."""
    loader = LeanLoader()
    for service, model in _MODELS:
        loader.load_service_model(service, model)
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    return loader


async def _session_of_role(role_arn: str, loader: LeanLoader) -> AioSession:
    """A session whose credentials come from STS, and are refreshed before they expire."""
    source = _new_session(loader)
    credentials = await source.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    create_client: Any = source.create_client
    fetcher = AioAssumeRoleCredentialFetcher(
        client_creator=create_client,
        source_credentials=credentials,
        role_arn=role_arn,
        extra_args={"RoleSessionName": "shipper"},
    )
    acting = _new_session(loader)
    acting.register_component("credential_provider", _RoleCredentials(fetcher))
    return acting


class _RoleCredentials:
    """botocore's credential provider for one role."""

    def __init__(self, fetcher: AioAssumeRoleCredentialFetcher) -> None:
        self._fetcher = fetcher

    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        return AioDeferredRefreshableCredentials(method="assume-role", refresh_using=self._fetcher.fetch_credentials)


def _object_options(config: S3Config) -> dict[str, str]:
    """What every object of this output is made with."""
    is_parquet = config.format == "parquet"
    options = {"ContentType": PARQUET_TYPE if is_parquet else CODECS[config.compression].content_type}
    if config.storage_class != "STANDARD":
        options["StorageClass"] = config.storage_class
    if config.sse == "AES256":
        options["ServerSideEncryption"] = "AES256"
    elif config.sse is not None:
        options |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": config.sse.kms_key_id}
    if config.acl is not None:
        options["ACL"] = config.acl
    if config.tags:
        options["Tagging"] = urllib.parse.urlencode(config.tags)
    return options


def _required(answer: Mapping[str, Any], name: str) -> str:
    """What every S3 server says, and a proxy's own page with status 200 does not."""
    value = answer.get(name)
    if not value:
        raise S3Error(Trouble("server", "the answer to an upload was not that of an S3 server"))
    return str(value)


def _judge(config: S3Config, response: Mapping[str, Any]) -> S3Error:
    error, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = int(metadata.get("HTTPStatusCode", 0))
    kind = AlreadyThere if status == 412 else NoSuchUpload if code == "NoSuchUpload" else S3Error
    wish = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
    delay_s = float(wish) if wish.isdecimal() else 0.0
    return kind(explain(config, code, status, message), code=code, status=status, delay_s=delay_s)


def _no_answer(config: S3Config, exc: Exception) -> Trouble:
    where = config.endpoint or f"S3 in {config.region or 'the default region'}"
    if isinstance(exc, _NO_CREDENTIALS):
        return Trouble(CREDENTIALS, f"no usable credentials: {exc}", "set `auth`, or what the SDK's chain looks for")
    if isinstance(exc, NoRegionError):
        return Trouble("region", "no region is known", "set `region`")
    if isinstance(exc, (ConnectTimeoutError, ReadTimeoutError, TimeoutError)):
        return Trouble("timeout", f"no answer in time from {where}")
    if isinstance(exc, SSLError):
        return Trouble("tls", f"no trusted connection to {where}: {exc}", "check the certificate, or AWS_CA_BUNDLE")
    if isinstance(exc, EndpointConnectionError):
        return Trouble("unreachable", f"cannot connect to {where}", "check `endpoint`, `region`, DNS and firewalls")
    return Trouble("connection", f"the request to {where} broke off: {exc}")
