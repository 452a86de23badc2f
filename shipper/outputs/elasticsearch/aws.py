"""Signs requests for OpenSearch as AWS runs it: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html

Credentials come from the SDK's own chain (environment, web identity, instance), which also renews them.
"""

import hashlib
import threading
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.session import get_session

from shipper.errors import Disconnected

_DIGEST = "x-amz-content-sha256"  # OpenSearch Serverless asks for it


class Signer:
    """For one host. Every method blocks (call it in a thread), and is thread-safe."""

    def __init__(self, url: str, *, region: str, service: str) -> None:
        self._url, self._region, self._service = url.rstrip("/"), region, service
        self._session = get_session()
        self._lock = threading.Lock()  # botocore's sessions find credentials one at a time

    def sign(
        self, method: str, path: str, params: Mapping[str, str], body: bytes | memoryview, content_type: str
    ) -> dict[str, str]:
        """The headers to add. Raises Disconnected when there are no credentials."""
        query = urlencode(sorted(params.items()), quote_via=quote, safe="-_.~")
        headers = {_DIGEST: hashlib.sha256(body).hexdigest()} | ({"content-type": content_type} if content_type else {})
        request = AWSRequest(method, f"{self._url}{path}" + (f"?{query}" if query else ""), headers, body)
        try:
            with self._lock:
                found = self._session.get_credentials()
                credentials = found.get_frozen_credentials() if found else None
        except BotoCoreError as exc:
            raise _no_credentials(str(exc)) from exc
        if credentials is None:
            raise _no_credentials("neither environment, files, web identity nor instance have any")
        SigV4Auth(credentials, self._service, self._region).add_auth(request)
        return {name.lower(): value for name, value in request.headers.items()}


def _no_credentials(why: str) -> Disconnected:
    return Disconnected(f"there are no AWS credentials to sign with: {why}", reason="auth", ambiguous=False)
