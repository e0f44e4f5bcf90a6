"""What a broker is told of its messages: when, in which order, and by which connection."""

from __future__ import annotations

from forwardpass.edge.inputs.deliveries import Deliveries, Delivery


def taken(deliveries: Deliveries, *numbers: int) -> list[Delivery]:
    """Messages that are new."""
    found = [deliveries.take(number, "topic", b"%d" % number) for number in numbers]
    return [delivery for delivery in found if delivery is not None]


def test_they_are_acknowledged_in_the_order_of_arrival() -> None:
    deliveries, told = Deliveries(), list[int]()
    deliveries.connected(told.append, same_session=True)
    first, second, third = taken(deliveries, 7, 8, 9)
    deliveries.settle(second)
    assert told == []
    deliveries.settle(first)
    assert told == [7, 8]
    deliveries.settle(third)
    assert told == [7, 8, 9]


def test_after_a_break_nobody_is_told_before_they_come_again() -> None:
    deliveries, old, new = Deliveries(), list[int](), list[int]()
    deliveries.connected(old.append, same_session=True)
    first, second = taken(deliveries, 1, 2)
    deliveries.disconnected()
    deliveries.settle(first)
    deliveries.connected(new.append, same_session=True)
    deliveries.settle(second)
    assert (old, new) == ([], [])
    assert taken(deliveries, 1, 2) == []
    assert (old, new) == ([], [1, 2])


def test_one_that_is_under_way_is_acknowledged_by_the_connection_that_it_came_by_again() -> None:
    deliveries, told = Deliveries(), list[int]()
    deliveries.connected(told.append, same_session=True)
    (first,) = taken(deliveries, 1)
    for _ in range(2):
        deliveries.disconnected()
        deliveries.connected(told.append, same_session=True)
        assert taken(deliveries, 1) == []
    deliveries.settle(first)
    assert told == [1]


def test_another_message_of_the_same_number_is_another() -> None:
    deliveries = Deliveries()
    deliveries.connected(lambda number: None, same_session=True)
    taken(deliveries, 1, 2)
    deliveries.disconnected()
    deliveries.connected(lambda number: None, same_session=True)
    assert deliveries.take(1, "topic", b"other") is not None
    assert deliveries.take(2, "other", b"2") is not None


def test_in_another_session_nothing_comes_again() -> None:
    deliveries = Deliveries()
    deliveries.connected(lambda number: None, same_session=False)
    taken(deliveries, 1)
    deliveries.disconnected()
    deliveries.connected(lambda number: None, same_session=False)
    assert len(taken(deliveries, 1)) == 1
