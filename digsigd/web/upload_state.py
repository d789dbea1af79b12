"""The life of one upload as a table: events go in, actions come out, and nothing else decides.

It knows no Twisted and does no I/O. `web/request.py`, `web/upload.py` and `web/resource.py` tell it what happened, and
do what it says. What it means when an upload is in a state:

    receiving   the body is arriving, and nothing is wrong so far
    refused     it will not be signed; the short rest of the body is read and thrown away, then the answer leaves
    signing     the body is whole and well-formed, and belongs to the endpoint
    answered    its one answer is on the way; what still arrives of the body is thrown away
    gone        over: nothing is done any more, whatever happens

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

An event that has no row changes nothing and asks for nothing. So there is one answer at most; the directory is removed
once, before the answer leaves and after whatever worked in it has ended; and whoever goes away ends it from any state.
"""

from __future__ import annotations

from enum import Enum

from digsigd.errors import DigsigError

# A refused body that ends within so many bytes is read to its end, and the connection lives on. More is answered at
# once, and the connection closed.
SHORT_REST = 64 << 10
# A client that still sends gets so many bytes (and LINGER_SECONDS) to see the answer before the connection is closed:
# closing one with unread bytes resets it, and the answer is lost (RFC 9112, 9.6).
LINGER_BYTES = 16 << 20


class State(Enum):
    """Where an upload is in its life."""

    RECEIVING = "receiving"
    REFUSED = "refused"
    SIGNING = "signing"
    ANSWERED = "answered"
    GONE = "gone"


class Event(Enum):
    """What happens to an upload."""

    PIECE = "piece"
    """Some bytes of the body are there."""
    WRONG_LITTLE_TO_COME = "wrong, little to come"
    """It will not be signed, by its headers, a field or its form, and the rest of the body is short."""
    WRONG_MUCH_TO_COME = "wrong, much to come"
    """The same, and the rest is long, of unknown length, or the client waits to be told to send it."""
    TOO_SLOW = "too slow"
    """The body stood still, or took too long altogether."""
    SHUTDOWN = "shutdown"
    """The daemon waits no longer for what is under way."""
    END_OF_BODY = "end of body"
    SIGNED = "signed"
    FAILED = "failed"
    """Signing has ended with an error, or was cancelled."""
    LINGERED = "lingered"
    """A client that was answered early has had its time, or its bytes, to read the answer."""
    OVER = "over"
    """The connection is lost, or the answer has left."""


class Action(Enum):
    """What the adapters do."""

    FEED = "feed"
    """Give the piece to the form, and let the time to stand still begin anew."""
    STOP_CLOCKS = "stop clocks"
    REMOVE = "remove"
    """Remove the directory, once nothing works in it any more."""
    ANSWER_NOW = "answer now"
    """Answer with the error while the body is still arriving, and give the client a moment to read it."""
    ANSWER_AT_END = "answer at end"
    """Call the endpoint to answer with the error."""
    SIGN = "sign"
    """Call the endpoint to sign."""
    CANCEL = "cancel"
    """Cancel signing, which then fails."""
    ANSWER = "answer"
    """The endpoint, which was signing, answers once the directory is gone."""
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
        # Nobody cancels here: Klein cancels the endpoint of a connection that is lost, and with it the signing.
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
    """The state of one upload, and what the table's events depend on: how much of the body is to come.

    `error` is why it was refused; the last of several reasons counts.
    """

    def __init__(self, length: int | None, *, expects: bool) -> None:
        """Begin with the headers: the body's length in bytes, None for a chunked one.

        `expects` says that the client waits for `100 Continue` before it sends the body.
        """
        self._state = State.RECEIVING
        self._error: DigsigError | None = None
        self._to_come = length
        self._expects = expects
        self._thrown_away = 0

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def error(self) -> DigsigError | None:
        """Why it was refused; None if it was not."""
        return self._error

    @property
    def much_to_come(self) -> bool:
        """Whether an error is answered at once, rather than after the rest of the body."""
        if self._to_come is None or self._to_come > SHORT_REST:
            return True
        return self._expects and self._to_come > 0

    def piece(self, size: int) -> tuple[Action, ...]:
        """Take `size` bytes of the body."""
        if self._to_come is not None:
            self._to_come -= size
        if self._state is State.ANSWERED:
            self._thrown_away += size
            if self._thrown_away > LINGER_BYTES:
                return self.happened(Event.LINGERED)
        return self.happened(Event.PIECE)

    def whole(self) -> None:
        """Note that the last bytes are there, before they are looked at: what is wrong with them is answered at end."""
        self._to_come = 0

    def wrong(self, error: DigsigError) -> tuple[Action, ...]:
        """Take an error that is found in the headers, a field or the form."""
        return self.happened(Event.WRONG_MUCH_TO_COME if self.much_to_come else Event.WRONG_LITTLE_TO_COME, error)

    def happened(self, event: Event, error: DigsigError | None = None) -> tuple[Action, ...]:
        """Take any other event. `error` is what a client is told where that ends the upload before it is signed."""
        row = TABLE[self._state].get(event)
        if row is None:
            return ()
        if error is not None and row[0] is not self._state:
            self._error = error
        self._state, actions = row
        return actions
