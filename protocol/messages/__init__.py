"""Messages: what a transaction asks of the ledger. Tags 30-69.

Those of one transaction are applied together or not at all.
"""

from __future__ import annotations

from fondaco.protocol.messages.governance import (
    Action,
    CastVote,
    ChangeParameters,
    Choice,
    EndAuthority,
    Grant,
    Propose,
    Resolution,
)
from fondaco.protocol.messages.grants import GrantSpending, RevokeSpending, Scope
from fondaco.protocol.messages.issuing import Burn, Mint
from fondaco.protocol.messages.leases import (
    Activate,
    CloseDeployment,
    CloseLease,
    Deposit,
    OpenLease,
    Reclaim,
    ReplaceLease,
    UpdateManifest,
    Withdraw,
)
from fondaco.protocol.messages.money import Faucet, Transfer
from fondaco.protocol.messages.providers import Alive, RegisterProvider, Retire
from fondaco.protocol.messages.templates import ForkTemplate, RegisterTemplate
from fondaco.protocol.messages.trust import Attest, Revoke
from fondaco.protocol.messages.validators import Bond, ParameterChange, SetParams, Unbond, Unjail

__all__ = [
    "Action",
    "Activate",
    "Alive",
    "Attest",
    "Bond",
    "Burn",
    "CastVote",
    "ChangeParameters",
    "Choice",
    "CloseDeployment",
    "CloseLease",
    "Deposit",
    "EndAuthority",
    "Faucet",
    "ForkTemplate",
    "Grant",
    "GrantSpending",
    "Message",
    "Mint",
    "OpenLease",
    "ParameterChange",
    "Propose",
    "Reclaim",
    "RegisterProvider",
    "RegisterTemplate",
    "ReplaceLease",
    "Resolution",
    "Retire",
    "Revoke",
    "RevokeSpending",
    "Scope",
    "SetParams",
    "Transfer",
    "Unbond",
    "Unjail",
    "UpdateManifest",
    "Withdraw",
]

Message = (
    Transfer
    | Faucet
    | RegisterProvider
    | OpenLease
    | Deposit
    | Activate
    | Withdraw
    | CloseLease
    | Bond
    | Unbond
    | Unjail
    | SetParams
    | Alive
    | Reclaim
    | CloseDeployment
    | Retire
    | Attest
    | Revoke
    | Mint
    | Burn
    | Propose
    | CastVote
    | RegisterTemplate
    | ForkTemplate
    | UpdateManifest
    | ReplaceLease
    | GrantSpending
    | RevokeSpending
)
