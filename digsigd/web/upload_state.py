"""The state machine of an upload: a table from states and events to actions. Nothing else decides what happens.

It does not use Twisted and does no I/O. `web/request.py`, `web/upload.py` and `web/resource.py` pass it events and
carry out its actions. The states of an upload:

    receiving   the body is arriving, and no fault has been found
    refused     it will not be signed; the short rest of the body is read and discarded, then the answer is sent
    signing     the body is complete and well-formed, and the endpoint has it
    answered    its only answer is being sent; the rest of the body is discarded
    gone        finished: events have no effect

    state      event                    next       actions
    ---------  -----------------------  ---------  ---------------------------------
    receiving  piece                    receiving  feed
    receiving  wrong, little to come    refused    remove
    receiving  wrong, much to come      answered   stop clocks, remove, answer now
    receiving  too slow                 answered   stop clocks, remove, answer now
    receiving  shutdown                 answered   stop clocks, remove, answer now
    receiving  end of body              signing    stop clocks, sign
    receiving  over                     gone       stop clocks, remove
    refused    too slow                 answered   stop clocks, answer now
    refused    shutdown                 answered   stop clocks, answer now
    refused    end of body              answered   stop clocks, answer at end
    refused    over                     gone       stop clocks
    signing    shutdown                 signing    cancel
    signing    signed                   answered   remove, answer
    signing    failed                   answered   remove, answer
    signing    over                     gone       remove
    answered   end of body              gone       stop clocks, close
    answered   lingered                 gone       stop clocks, close
    answered   over                     gone       stop clocks

An event without a row changes nothing and causes no action. Therefore there is at most one answer; the directory is
removed once, after all work in it has ended and before the answer is sent; and a lost connection ends it in any state.
"""

from __future__ import annotations

from enum import Enum

from digsigd.errors import DigsigError

# If a refused body ends within this many bytes, it is read to its end, and the connection stays open. Otherwise it is
# answered immediately, and the connection is closed.
SHORT_REST = 64 << 10
# How many bytes are discarded after an early answer (within LINGER_SECONDS) before the connection is closed. Closing
# it with unread bytes would reset it, and the answer would be lost (RFC 9112, 9.6).
LINGER_BYTES = 16 << 20


class State(Enum):
    """The states of an upload."""

    RECEIVING = "receiving"
    REFUSED = "refused"
    SIGNING = "signing"
    ANSWERED = "answered"
    GONE = "gone"


class Event(Enum):
    """The events of an upload."""

    PIECE = "piece"
    """Bytes of the body have arrived."""
    WRONG_LITTLE_TO_COME = "wrong, little to come"
    """The headers, a field or the form are wrong, and the rest of the body is short."""
    WRONG_MUCH_TO_COME = "wrong, much to come"
    """The same, and the rest is long, of unknown length, or not sent before `100 Continue`."""
    TOO_SLOW = "too slow"
    """The body stalled, or took too long in all."""
    SHUTDOWN = "shutdown"
    """The daemon does not wait any longer for requests under way."""
    END_OF_BODY = "end of body"
    SIGNED = "signed"
    FAILED = "failed"
    """Signing has ended with an error, or was cancelled."""
    LINGERED = "lingered"
    """A client that was answered early has used up its time, or its bytes, to read the answer."""
    OVER = "over"
    """The connection is lost, or the answer has been sent."""


class Action(Enum):
    """The actions that the adapters carry out."""

    FEED = "feed"
    """Pass the piece to the form, and restart the idle timeout."""
    STOP_CLOCKS = "stop clocks"
    REMOVE = "remove"
    """Remove the directory, as soon as nothing works in it."""
    ANSWER_NOW = "answer now"
    """Answer with the error while the body is still arriving, and give the client time to read it."""
    ANSWER_AT_END = "answer at end"
    """Call the endpoint to answer with the error."""
    SIGN = "sign"
    """Call the endpoint to sign."""
    CANCEL = "cancel"
    """Cancel signing, which causes the event `FAILED`."""
    ANSWER = "answer"
    """Let the endpoint, which was signing, answer after the directory is removed."""
    CLOSE = "close"
    """Close the connection."""


_GIVE_UP = (State.ANSWERED, (Action.STOP_CLOCKS, Action.REMOVE, Action.ANSWER_NOW))

TABLE: dict[State, dict[Event, tuple[State, tuple[Action, ...]]]] = {
    State.RECEIVING: {
        Event.PIECE: (State.RECEIVING, (Action.FEED,)),
        Event.WRONG_LITTLE_TO_COME: (State.REFUSED, (Action.REMOVE,)),
        Event.WRONG_MUCH_TO_COME: _GIVE_UP,
        Event.TOO_SLOW: _GIVE_UP,
        Event.SHUTDOWN: _GIVE_UP,
        Event.END_OF_BODY: (State.SIGNING, (Action.STOP_CLOCKS, Action.SIGN)),
        Event.OVER: (State.GONE, (Action.STOP_CLOCKS, Action.REMOVE)),
    },
    State.REFUSED: {
        Event.TOO_SLOW: (State.ANSWERED, (Action.STOP_CLOCKS, Action.ANSWER_NOW)),
        Event.SHUTDOWN: (State.ANSWERED, (Action.STOP_CLOCKS, Action.ANSWER_NOW)),
        Event.END_OF_BODY: (State.ANSWERED, (Action.STOP_CLOCKS, Action.ANSWER_AT_END)),
        Event.OVER: (State.GONE, (Action.STOP_CLOCKS,)),
    },
    State.SIGNING: {
        Event.SHUTDOWN: (State.SIGNING, (Action.CANCEL,)),
        Event.SIGNED: (State.ANSWERED, (Action.REMOVE, Action.ANSWER)),
        Event.FAILED: (State.ANSWERED, (Action.REMOVE, Action.ANSWER)),
        # No CANCEL here: Klein cancels the endpoint when its connection is lost, and that cancels signing.
        Event.OVER: (State.GONE, (Action.REMOVE,)),
    },
    State.ANSWERED: {
        Event.END_OF_BODY: (State.GONE, (Action.STOP_CLOCKS, Action.CLOSE)),
        Event.LINGERED: (State.GONE, (Action.STOP_CLOCKS, Action.CLOSE)),
        Event.OVER: (State.GONE, (Action.STOP_CLOCKS,)),
    },
    State.GONE: {},
}


class UploadState:
    """The state of one upload, and how much of its body is still to come.

    `error` is the reason why it was refused; the last of several reasons counts.
    """

    def __init__(self, length: int | None, *, expects: bool) -> None:
        """Begin in the state `RECEIVING`. `length` is the body's length in bytes, None for a chunked body.

        `expects` is true if the client waits for `100 Continue` before it sends the body.
        """
        self._state = State.RECEIVING
        self._error: DigsigError | None = None
        self._to_come = length
        self._expects = expects
        self._thrown_away = 0

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    @property
    def error(self) -> DigsigError | None:
        """The reason why the upload was refused; None if it was not."""
        return self._error

    @property
    def much_to_come(self) -> bool:
        """Whether an error is answered immediately, rather than after the rest of the body."""
        if self._to_come is None or self._to_come > SHORT_REST:
            return True
        return self._expects and self._to_come > 0

    def piece(self, size: int) -> tuple[Action, ...]:
        """Take `size` bytes of the body, and return the actions to carry out."""
        if self._to_come is not None:
            self._to_come -= size
        if self._state is State.ANSWERED:
            self._thrown_away += size
            if self._thrown_away > LINGER_BYTES:
                return self.happened(Event.LINGERED)
        return self.happened(Event.PIECE)

    def whole(self) -> None:
        """Note that the body has ended, before its last bytes are parsed: a fault in them is answered at the end."""
        self._to_come = 0

    def wrong(self, error: DigsigError) -> tuple[Action, ...]:
        """Take an error in the headers, a field or the form, and return the actions to carry out."""
        return self.happened(Event.WRONG_MUCH_TO_COME if self.much_to_come else Event.WRONG_LITTLE_TO_COME, error)

    def happened(self, event: Event, error: DigsigError | None = None) -> tuple[Action, ...]:
        """Take any other event, and return the actions to carry out.

        `error` is the answer if the event ends the upload before it is signed.
        """
        row = TABLE[self._state].get(event)
        if row is None:
            return ()
        if error is not None and row[0] is not self._state:
            self._error = error
        self._state, actions = row
        return actions
