"""The stop switch: one pull stops everything that is connected."""

import pytest

from engine.delivery.stop import Stop, StopSwitch
from engine.errors import IncompleteError


def test_a_stop_reaches_all_that_are_connected_and_no_others() -> None:
    switch = StopSwitch()
    first: list[Stop] = []
    second: list[Stop] = []
    with switch.connected(first.append):
        with switch.connected(second.append):
            switch.pull("a signal")
        switch.pull("another one")
    switch.pull("too late")
    assert [stop.reason for stop in first] == ["a signal", "another one"]
    assert [stop.reason for stop in second] == ["a signal"]


def test_an_earlier_stop_reaches_whoever_hears_of_it() -> None:
    switch = StopSwitch()
    switch.refuse_if_pulled()
    switch.pull("a signal")
    heard: list[Stop] = []
    with switch.connected(heard.append, hears_earlier=False):
        assert heard == []
    with switch.connected(heard.append):
        assert [stop.reason for stop in heard] == ["a signal"]
    assert switch.is_pulled
    with pytest.raises(IncompleteError, match="a signal"):
        switch.refuse_if_pulled()


def test_the_same_listener_can_be_connected_twice() -> None:
    switch = StopSwitch()
    heard: list[Stop] = []
    with switch.connected(heard.append):
        with switch.connected(heard.append):
            pass
        switch.pull("a signal")
    assert len(heard) == 1


def test_a_listener_that_raises_keeps_no_other_from_being_called() -> None:
    switch = StopSwitch()
    heard: list[Stop] = []

    def fail(_: Stop) -> None:
        raise RuntimeError("a listener's mistake")

    with switch.connected(heard.append), switch.connected(fail), switch.connected(heard.append):
        with pytest.raises(RuntimeError, match="a listener's mistake"):
            switch.pull("a signal")
        assert len(heard) == 2


def test_the_second_pull_cancels_and_a_drain_is_no_pull() -> None:
    switch = StopSwitch()
    heard: list[Stop] = []
    with switch.connected(heard.append):
        switch.drain("closed")
        switch.drain("closed again")
        switch.pull("a signal")
        switch.drain("closed at last")
        switch.pull("another one")
        switch.cancel("cancelled")
    assert [(stop.reason, stop.cancels) for stop in heard] == [
        ("closed", False),
        ("a signal", False),
        ("another one", True),
        ("cancelled", True),
    ]


def test_a_switch_passes_on_what_another_one_has_heard() -> None:
    caller, own = StopSwitch(), StopSwitch()
    heard: list[Stop] = []
    with caller.connected(own.pass_on), own.connected(heard.append):
        own.drain("closed")
        caller.pull("a signal")
        caller.pull("another one")
    assert [stop.cancels for stop in heard] == [False, False, True]
