"""Judging the word that accounts gave on others, and to them, on a chain that is to begin; a part of `recount`."""

from __future__ import annotations

from collections import Counter

from fondaco.consensus.ledger.judging import Pairs, wrong
from fondaco.protocol import codec, limits
from fondaco.protocol.records import (
    Attestation,
    Provider,
    SpendingGrant,
    key_attestation,
    key_attestation_expiry,
    key_grant,
    key_grant_expiry,
    key_provider,
)
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import PublicKey


class WordsRecount:
    """Takes attestations and spending grants one by one, as `recount` does."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._attested: dict[PublicKey, set[Attribute]] = {}
        """By provider, until its record is seen."""
        self._auditors: Counter[PublicKey] = Counter()
        self._grants: Counter[PublicKey] = Counter()
        """By granter."""

    def take(self, key: bytes, kind: bytes, rest: bytes, value: bytes) -> None:
        """A record of `kind`, one of `KINDS`. Raises `Refused` `genesis.record` or `Malformed`."""
        match kind:
            case b"attestation/":
                self._attestation(key, codec.decode(value, Attestation))
            case b"grant/":
                self._grant(key, codec.decode(value, SpendingGrant))
            case _:
                self._pairs.entry(key, rest, value, names=2)

    def provider(self, key: bytes, provider: Provider) -> None:
        """Its record, which comes after what is said of it."""
        if not self._attested.pop(provider.key, set()) <= set(provider.attributes):
            wrong(key, "an auditor has attested what it does not state")

    def _attestation(self, key: bytes, said: Attestation) -> None:
        if key != key_attestation(said.provider, said.auditor):
            wrong(key, "it is of another provider or auditor")
        names = [one.key for one in said.attributes]
        if not 1 <= len(names) <= limits.ATTRIBUTES or names != sorted(set(names)):
            wrong(key, f"1..{limits.ATTRIBUTES} attributes, sorted by key, each key once")
        self._auditors[said.provider] += 1
        if self._auditors[said.provider] > limits.AUDITORS_PER_PROVIDER:
            wrong(key, f"it is of one of more than {limits.AUDITORS_PER_PROVIDER} auditors")
        self._attested.setdefault(said.provider, set()).update(said.attributes)
        self._pairs.match(key_attestation_expiry(said.expires_at, said.provider, said.auditor))

    def _grant(self, key: bytes, grant: SpendingGrant) -> None:
        if key != key_grant(grant.granter, grant.grantee) or grant.granter == grant.grantee:
            wrong(key, "it is of other accounts, or of one to itself")
        if grant.spent > grant.limit or not grant.limit:
            wrong(key, "more was spent than it allows, or it allows nothing")
        self._grants[grant.granter] += 1
        if self._grants[grant.granter] > limits.GRANTS:
            wrong(key, f"it is one of more than {limits.GRANTS} of one account")
        self._pairs.match(key_grant_expiry(grant.expires_at, grant.granter, grant.grantee))

    def close(self) -> None:
        if self._attested:
            wrong(key_provider(min(self._attested)), "there is none, and an auditor has attested something of it")


KINDS = (b"attestation/", b"attestation-expiry/", b"grant/", b"grant-expiry/")
