from fondaco.node.network.contacts import ERROR_CHARACTERS, Contact, Contacts
from fondaco.node.network.peers import Address, PeerId
from fondaco.protocol import limits

PEER = PeerId("12D3KooWpeer")
PLACE = Address("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWpeer")


def test_failures_in_a_row_are_counted_until_one_dial_is_answered() -> None:
    contacts = Contacts()
    assert contacts.of(PEER) is None
    contacts.failed(PEER, PLACE, "refused", 1.0)
    contacts.failed(PEER, PLACE, "x" * 1_000, 2.0)
    contacts.retry(PEER, 3.0)
    error = "x" * ERROR_CHARACTERS
    assert contacts.of(PEER) == Contact(address=PLACE, failures=2, error=error, failed_at=2.0, next_at=3.0)
    contacts.reached(PEER, PLACE)
    assert contacts.of(PEER) == Contact(address=PLACE)


def test_how_a_connection_ended_is_remembered_until_the_next() -> None:
    contacts = Contacts()
    contacts.came(PEER)
    contacts.dropping(PEER, "silence")
    contacts.left(PEER, 7.0)
    assert contacts.of(PEER) == Contact(left_at=7.0, dropped="silence")
    contacts.came(PEER)
    assert contacts.of(PEER) == Contact(left_at=7.0)


def test_those_that_nothing_happened_with_for_longest_are_forgotten() -> None:
    contacts = Contacts()
    for number in range(limits.CONTACTS):
        contacts.came(PeerId(str(number)))
    contacts.left(PeerId("0"), 1.0)
    contacts.came(PEER)
    assert len(contacts) == limits.CONTACTS
    assert contacts.of(PeerId("1")) is None
    assert contacts.of(PeerId("0")) is not None
