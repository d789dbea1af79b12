"""Daemons as the tests of daemons have them."""

from tests.daemon.conftest import start as start
