"""What the ledger says happened, in the order it happened. Tags 80-99 and 170-199; a header commits to them."""

from __future__ import annotations

from fondaco.protocol.events.governance import (
    AuthorityEnded,
    PoolSpent,
    ProposalEnded,
    ProposalMade,
    VoteCast,
)
from fondaco.protocol.events.grants import GrantEnded, GrantSpent, SpendingGranted
from fondaco.protocol.events.leases import (
    Deposited,
    HandoffLapsed,
    LeaseActivated,
    LeaseClosed,
    LeaseOpened,
    LeaseReclaimed,
    LeaseReplaced,
    ManifestUpdated,
    Paid,
    RanDry,
    Refunded,
    Resumed,
)
from fondaco.protocol.events.money import Burnt, Minted, TransactionApplied, Transferred
from fondaco.protocol.events.providers import ProviderAlive, ProviderRegistered, ProviderRetired, ProviderRetiring
from fondaco.protocol.events.templates import RoyaltyPaid, TemplateRegistered
from fondaco.protocol.events.trust import AttestationLost, Attested, Loss, ProviderSlashed
from fondaco.protocol.events.validators import (
    Bonded,
    Jailed,
    ParameterChanged,
    PowerChanged,
    Slashed,
    Unbonded,
    UnbondingBegan,
    Unjailed,
)

__all__ = [
    "AttestationLost",
    "Attested",
    "AuthorityEnded",
    "Bonded",
    "Burnt",
    "Deposited",
    "Event",
    "GrantEnded",
    "GrantSpent",
    "HandoffLapsed",
    "Jailed",
    "LeaseActivated",
    "LeaseClosed",
    "LeaseOpened",
    "LeaseReclaimed",
    "LeaseReplaced",
    "Loss",
    "ManifestUpdated",
    "Minted",
    "Paid",
    "ParameterChanged",
    "PoolSpent",
    "PowerChanged",
    "ProposalEnded",
    "ProposalMade",
    "ProviderAlive",
    "ProviderRegistered",
    "ProviderRetired",
    "ProviderRetiring",
    "ProviderSlashed",
    "RanDry",
    "Refunded",
    "Resumed",
    "RoyaltyPaid",
    "Slashed",
    "SpendingGranted",
    "TemplateRegistered",
    "TransactionApplied",
    "Transferred",
    "Unbonded",
    "UnbondingBegan",
    "Unjailed",
    "VoteCast",
]

Event = (
    TransactionApplied
    | Transferred
    | Minted
    | ProviderRegistered
    | LeaseOpened
    | Deposited
    | LeaseActivated
    | Paid
    | RanDry
    | Resumed
    | LeaseClosed
    | Refunded
    | HandoffLapsed
    | Bonded
    | UnbondingBegan
    | Unbonded
    | Slashed
    | Jailed
    | Unjailed
    | PowerChanged
    | ParameterChanged
    | ProviderAlive
    | LeaseReclaimed
    | ProviderRetiring
    | ProviderRetired
    | Attested
    | AttestationLost
    | Burnt
    | ProviderSlashed
    | ProposalMade
    | VoteCast
    | ProposalEnded
    | PoolSpent
    | AuthorityEnded
    | TemplateRegistered
    | RoyaltyPaid
    | ManifestUpdated
    | LeaseReplaced
    | SpendingGranted
    | GrantSpent
    | GrantEnded
)
