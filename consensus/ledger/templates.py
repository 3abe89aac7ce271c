"""The registry of templates: who made what, of what, and which share of a lease's payments is theirs."""

from __future__ import annotations

from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import TemplateRegistered
from fondaco.protocol.messages import ForkTemplate, RegisterTemplate
from fondaco.protocol.records import Royalty, Template, key_template, template_id
from fondaco.protocol.scalars import TemplateId


def template_of(state: State, template: TemplateId) -> Template:
    """Raises `Refused` `template.unknown`."""
    found = state.get(key_template(template), Template)
    if found is None:
        raise Refused("template.unknown", f"there is no template {template.hex()}")
    return found


def register(context: Context, message: RegisterTemplate) -> None:
    """Raises `Refused` `template.*`."""
    _add(context, message, None, ())


def fork(context: Context, message: ForkTemplate) -> None:
    """Raises `Refused` `template.*`."""
    parent = template_of(context.state, message.parent)
    if len(parent.royalties) > limits.TEMPLATE_FORKS:
        raise Refused("template.depth", f"templates are forked {limits.TEMPLATE_FORKS} times over at most")
    _add(context, message, parent.id, parent.royalties)


def _add(
    context: Context,
    message: RegisterTemplate | ForkTemplate,
    parent: TemplateId | None,
    inherited: tuple[Royalty, ...],
) -> None:
    state, identity = context.state, template_id(context.sender, message.content)
    if not 1 <= len(message.title.encode()) <= limits.TEMPLATE_TITLE_BYTES:
        raise Refused("template.title", f"a template's title has 1..{limits.TEMPLATE_TITLE_BYTES} bytes")
    royalties = (*inherited, Royalty(author=context.sender, basis_points=message.royalty_basis_points))
    total = sum(one.basis_points for one in royalties)
    if total > limits.ROYALTY_BASIS_POINTS:
        most = limits.ROYALTY_BASIS_POINTS
        raise Refused("template.royalty", f"royalties of {total} basis points in all, at most {most} allowed")
    if state.get(key_template(identity), Template) is not None:
        raise Refused("template.exists", "the sender has registered this content before")
    state.put(
        key_template(identity),
        Template(
            id=identity,
            content=message.content,
            title=message.title,
            parent=parent,
            royalties=royalties,
            registered_at=context.now,
        ),
    )
    context.events.append(
        TemplateRegistered(
            template=identity,
            author=context.sender,
            content=message.content,
            title=message.title,
            parent=parent,
            royalty_basis_points=message.royalty_basis_points,
        )
    )
