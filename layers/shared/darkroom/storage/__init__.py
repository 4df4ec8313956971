"""ObjectStore: where bundles and images live; a directory on one machine, S3 or a compatible elsewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from darkroom.storage.store import ObjectReader, ObjectStore, UploadUrl

__all__ = ["ObjectReader", "ObjectStore", "UploadUrl", "open_store"]


def open_store(url: str, *, public_url: str = "", signing_key: bytes = b"") -> ObjectStore:
    """The store that `url` names: `file:///path`, `file://relative/path` or a plain path; or `s3://bucket/prefix`.

    `public_url` and `signing_key` serve the directory store only: its signed URLs are `{public_url}/objects/{key}?...`.
    S3's endpoint, region and addressing come from the environment (see `darkroom.storage.s3`). Raises: ValueError.
    """
    scheme = urlsplit(url).scheme if "://" in url else "file"
    if scheme == "file":
        from darkroom.storage.directory import DirectoryStore

        path = unquote(url.removeprefix("file://")) if url.startswith("file://") else url
        if not path:
            raise ValueError("file:// needs a path, such as file:///var/lib/darkroom")
        return DirectoryStore(Path(path), public_url=public_url, signing_key=signing_key)
    if scheme == "s3":
        from darkroom.storage.s3 import S3Store

        parts = urlsplit(url)
        if not parts.netloc:
            raise ValueError("s3:// needs a bucket, such as s3://images")
        return S3Store(bucket=parts.netloc, prefix=parts.path.strip("/"))
    raise ValueError(f"no object store for {scheme}://; use one of file, s3")
