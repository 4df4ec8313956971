"""S3 as a presigned URL meets it: the host decides who answers, the signature is of the host, and both end.

Hosts are those of botocore's `partitions.json`. What the wrong host answers: "Request routing" and "Virtual hosting of
general purpose buckets" in the S3 User Guide (docs.aws.amazon.com/AmazonS3/latest/userguide/UsingRouting.html): 307 to
the bucket's region, or 400 in regions opened after 20 March 2019. The signature is checked as "Authenticating requests:
using query parameters" in the S3 API Reference has it. What a role's session signed ends with the session, whatever the
URL says: "Download and upload objects with presigned URLs" in the User Guide.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import botocore

# Regions of before 20 March 2019; S3 answers 400 in all others where the host names none, or another one.
_REDIRECTED = {
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"),
    *("eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1"),
    *("ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3"),
}
GLOBAL = "s3.amazonaws.com"


def regions() -> dict[str, str]:
    """Every region of AWS, China's among them -> the suffix of its hosts."""
    found = json.loads((Path(botocore.__file__).parent / "data/partitions.json").read_text(encoding="utf-8"))
    return {
        region: partition["outputs"]["dnsSuffix"]
        for partition in found["partitions"]
        if partition["id"] in ("aws", "aws-cn")
        for region in partition["regions"]
        if region not in ("aws-global", "aws-cn-global")
    }


@dataclass(frozen=True)
class Bucket:
    """A bucket of a region, whose reader holds `secret`."""

    name: str
    region: str
    secret: str
    session_ends: float = math.inf  # seconds since the epoch

    @property
    def host(self) -> str:
        return f"{self.name}.s3.{self.region}.{regions()[self.region]}"

    def fetch(self, url: str, method: str = "GET", **headers: str) -> int:
        """The status that a client comes to who follows redirects with the same query, as all do."""
        parts = urlsplit(url)
        if parts.hostname == f"{self.name}.{GLOBAL}" and self.region != "us-east-1":
            if self.region not in _REDIRECTED:
                return 400
            return self.fetch(parts._replace(netloc=self.host).geturl(), method, **headers)
        if parts.hostname not in (self.host, f"{self.name}.{GLOBAL}"):
            return 404
        return 200 if self._is_signed(url, method, headers) else 403

    def promised(self, url: str) -> float:
        """Until when the URL says that it works, in seconds since the epoch."""
        query = dict(parse_qsl(urlsplit(url).query))
        begins = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return begins.timestamp() + int(query["X-Amz-Expires"])

    def fetch_at(self, url: str, at: float) -> int:
        """The status at a time, in seconds since the epoch."""
        return self.fetch(url) if at <= min(self.promised(url), self.session_ends) else 403

    def _is_signed(self, url: str, method: str, headers: dict[str, str]) -> bool:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        given = query.pop("X-Amz-Signature")
        _, date, region, service, last = query["X-Amz-Credential"].split("/")
        if region != self.region:
            return False
        sent = {"host": str(parts.hostname), **{name.lower().replace("_", "-"): text for name, text in headers.items()}}
        names = query["X-Amz-SignedHeaders"].split(";")
        canonical = [
            method,
            parts.path,
            "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query)),
            *(f"{name}:{sent.get(name, '')}" for name in names),
            "",
            ";".join(names),
            "UNSIGNED-PAYLOAD",
        ]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], f"{date}/{region}/{service}/{last}", digest])
        key = f"AWS4{self.secret}".encode()
        for part in (date, region, service, last):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), given)
