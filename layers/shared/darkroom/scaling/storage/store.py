"""Where scaling policies are kept: one for each model, with a version, an audit, and a fence for who carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from darkroom import strict_json
from darkroom.database.condition import ANYWAY, Condition, Hold
from darkroom.errors import RequestError

if TYPE_CHECKING:
    from darkroom.scaling.policy import ScalingPolicy

Document = dict[str, Any]
_SHOWN = 1000  # characters of what cannot be read


def document_of(text: str | None) -> Document | None:
    """A document as it was stored. One that is damaged is shown as `unreadable`, which no policy is, so that it can be
    replaced, and is not taken for none."""
    if text is None:
        return None
    try:
        document = strict_json.parse(text.encode(errors="replace"))
        if isinstance(document, dict):
            return document
    except RequestError:
        pass
    return {"unreadable": text[:_SHOWN]}


@dataclass(frozen=True)
class StoredPolicy:
    """A model's policy document as JSON values, or None once it was deleted.

    `version` only grows, across deletions too; `changed_at` is in seconds since the epoch, `changed_by` the tenant.
    `applied` is the fingerprint that a reconciler last brought about, None where nothing of
    ours exists. `replaces`: whether the write that answered this found another policy.
    """

    model: str
    version: int
    document: Document | None
    changed_at: float
    changed_by: str
    applied: str | None = None
    replaces: bool = False

    @property
    def etag(self) -> str:
        """The version as HTTP has it."""
        return f'"{self.version}"'

    @property
    def policy(self) -> ScalingPolicy | None:
        """The document, read. It was valid when it was stored, but perhaps to another release.

        Raises: InvalidPolicy.
        """
        from darkroom.scaling.document import parse_policy  # costs cold start, and most requests are not about scaling

        return None if self.document is None else parse_policy(self.document)


@dataclass(frozen=True)
class Change:
    """One line of the audit: who made which version out of which, and when (seconds since the epoch)."""

    model: str
    version: int
    at: float
    by: str
    old: Document | None
    new: Document | None


class PolicyStore(Protocol):
    """Every method raises JobStoreUnavailable where the database does not answer."""

    def get(self, model: str) -> StoredPolicy | None:
        """The model's policy; None where it has none."""

    def all(self) -> list[StoredPolicy]:
        """Every model's, by name, with those that were deleted (their document is None)."""

    def put(self, model: str, document: Document, *, by: str, when: Condition = ANYWAY) -> StoredPolicy:
        """Replace the policy. Raises: PreconditionFailed, and then nothing has changed."""

    def delete(self, model: str, *, by: str, when: Condition = ANYWAY) -> None:
        """Raises: PolicyNotFound; PreconditionFailed, and then nothing has changed."""

    def history(self, model: str) -> list[Change]:
        """What was changed, oldest first."""

    def take(self, model: str) -> Hold:
        """Become the one who carries out the policy; whoever was it before can write no more. Raises: PolicyNotFound,
        where the model never had one."""

    def held(self, hold: Hold) -> bool:
        """Whether nobody has taken over since: a conditional write, so that two can never both be told yes."""

    def applied(self, hold: Hold, fingerprint: str | None) -> bool:
        """Remember what was brought about; False (and nothing written) where the hold is lost."""

    def close(self) -> None:
        """Let go of the connections; they are opened again if the store is used again."""
