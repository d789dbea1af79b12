"""The life of an upload: its table, walked whole, and what holds whatever happens in whatever order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.errors import BadRequest, DigsigError, UploadTimeout
from digsigd.web import upload_state
from digsigd.web.upload_state import LINGER_BYTES, SHORT_REST, TABLE, Action, Event, State, UploadState

ANSWERS = {Action.ANSWER_NOW, Action.ANSWER_AT_END, Action.ANSWER}
WAYS: dict[State, list[Event]] = {
    State.RECEIVING: [],
    State.REFUSED: [Event.WRONG_LITTLE_TO_COME],
    State.SIGNING: [Event.END_OF_BODY],
    State.ANSWERED: [Event.END_OF_BODY, Event.SIGNED],
    State.GONE: [Event.OVER],
}


def upload_in(state: State) -> UploadState:
    upload = UploadState(100, expects=False)
    for event in WAYS[state]:
        upload.happened(event)
    assert upload.state is state
    return upload


def rows_of_the_docstring() -> dict[tuple[str, str], tuple[str, list[str]]]:
    text = upload_state.__doc__ or ""
    lines = [line.strip() for line in text.partition("actions\n")[2].partition("\n\n")[0].splitlines()]
    widths = [len(part) for part in lines[0].split("  ")]
    rows = {}
    for line in lines[1:]:
        cells, start = [], 0
        for width in widths:
            cells.append(line[start : start + width].strip())
            start += width + 2
        state, event, following, actions = cells
        assert (state, event) not in rows
        rows[state, event] = (following, actions.split(", "))
    return rows


def test_the_docstring_shows_the_table() -> None:
    """The docstring has every row of the table and no other."""
    table = {
        (state.value, event.value): (following.value, [action.value for action in actions])
        for state, events in TABLE.items()
        for event, (following, actions) in events.items()
    }
    assert rows_of_the_docstring() == table
    assert set(TABLE) == set(State)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state(state: State, event: Event) -> None:
    """An event does what its row says, and without a row it changes nothing."""
    upload = upload_in(state)
    following, actions = rows_of_the_docstring().get((state.value, event.value), (state.value, []))
    assert [action.value for action in upload.happened(event)] == actions
    assert upload.state.value == following


@pytest.mark.parametrize("action", Action)
def test_every_action_is_asked_for(action: Action) -> None:
    """No action is a leftover that no row has."""
    assert any(action in actions for events in TABLE.values() for _, actions in events.values())


Step = Callable[[UploadState], tuple[Action, ...]]
ERROR = BadRequest("something")
PIECES = st.integers(1, LINGER_BYTES)
STEPS: st.SearchStrategy[Step] = st.one_of(
    PIECES.map(lambda size: lambda upload: upload.piece(size)),
    st.just(lambda upload: upload.wrong(ERROR)),
    st.just(lambda upload: (upload.whole(), upload.happened(Event.END_OF_BODY))[1]),
    st.sampled_from(Event).map(lambda event: lambda upload: upload.happened(event, ERROR)),
)
LENGTHS = st.none() | st.sampled_from([0, 1, SHORT_REST, SHORT_REST + 1]) | st.integers(0, 1 << 40)


@given(LENGTHS, st.booleans(), st.lists(STEPS, max_size=12))
def test_whatever_happens_in_whatever_order(length: int | None, expects: bool, steps: list[Step]) -> None:
    """One answer at most, a directory that is removed once and not used after, and an end when the connection ends."""
    upload = UploadState(length, expects=expects)
    done: list[Action] = []
    for step in steps:
        done += step(upload)
    done += upload.happened(Event.OVER)
    assert upload.state is State.GONE
    count = Counter(done)
    assert sum(count[one] for one in ANSWERS) <= 1
    assert count[Action.REMOVE] == 1
    assert count[Action.SIGN] <= 1
    removed = done.index(Action.REMOVE)
    for user in (Action.FEED, Action.SIGN, Action.CANCEL):
        assert user not in done[removed:]
    for answer in ANSWERS & set(done):
        assert removed < done.index(answer)
    # Clocks that run are stopped, those that the answer starts too.
    last_start = max((at for at, one in enumerate(done) if one in {Action.FEED, Action.ANSWER_NOW}), default=-1)
    assert Action.STOP_CLOCKS in done[last_start + 1 :]
    for step in steps:
        assert step(upload) == ()


@given(st.lists(STEPS, max_size=12))
def test_whoever_is_signed_for_is_answered(steps: list[Step]) -> None:
    """Signing that ends is followed by its answer, unless nobody waits for it any more."""
    upload = upload_in(State.SIGNING)
    for step in steps:
        before = upload.state
        done = step(upload)
        if before is State.SIGNING:
            assert (Action.ANSWER in done) == (upload.state is State.ANSWERED)


@pytest.mark.parametrize(
    ("length", "expects", "much"),
    [
        (None, False, True),
        (SHORT_REST, False, False),
        (SHORT_REST + 1, False, True),
        (1, True, True),
        (0, True, False),
        (0, False, False),
    ],
)
def test_what_is_wrong_is_answered_at_once_where_much_is_to_come(length: int | None, expects: bool, much: bool) -> None:
    """More than 64 KiB, an unknown length, and a client that waits to be told are much; nothing is not."""
    upload = UploadState(length, expects=expects)
    assert upload.much_to_come == much
    assert (Action.ANSWER_NOW in upload.wrong(ERROR)) == much
    assert upload.state is (State.ANSWERED if much else State.REFUSED)
    assert upload.error is ERROR


def test_what_has_arrived_is_not_to_come() -> None:
    """The rest counts, not the whole; of a chunked body nothing is known until it has ended."""
    upload = UploadState(SHORT_REST + 10, expects=False)
    upload.piece(9)
    assert Action.ANSWER_NOW in upload.wrong(ERROR)
    upload = UploadState(SHORT_REST + 10, expects=False)
    upload.piece(10)
    assert upload.wrong(ERROR) == (Action.REMOVE,)
    chunked = UploadState(None, expects=False)
    chunked.piece(1 << 20)
    assert chunked.much_to_come
    chunked.whole()
    assert chunked.wrong(ERROR) == (Action.REMOVE,)
    assert chunked.happened(Event.END_OF_BODY) == (Action.STOP_CLOCKS, Action.ANSWER_AT_END)


def test_a_client_that_sends_on_after_its_answer_is_heard_for_a_while() -> None:
    """16 MiB of the rest are thrown away, whatever came before the answer; one byte more closes the connection."""
    upload = UploadState(None, expects=False)
    upload.piece(LINGER_BYTES)
    upload.wrong(ERROR)
    assert upload.piece(LINGER_BYTES) == ()
    assert upload.piece(1) == (Action.STOP_CLOCKS, Action.CLOSE)
    assert upload.piece(1) == ()


def test_the_last_reason_counts() -> None:
    """Who was refused and then stands still is told that; what comes after the answer changes nothing."""
    upload = UploadState(10, expects=False)
    upload.wrong(ERROR)
    late: DigsigError = UploadTimeout("late")
    upload.happened(Event.TOO_SLOW, late)
    upload.happened(Event.SHUTDOWN, ERROR)
    assert upload.error is late


def test_what_is_cancelled_was_not_refused() -> None:
    """A shutdown cancels signing, whose end then says what the client is told."""
    upload = upload_in(State.SIGNING)
    assert upload.happened(Event.SHUTDOWN, ERROR) == (Action.CANCEL,)
    assert upload.error is None
