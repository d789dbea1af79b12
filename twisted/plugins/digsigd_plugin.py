"""Tells twistd of digsigd. Only the name is imported here: anything more would install a reactor too early."""

from twisted.application.service import ServiceMaker

digsigd = ServiceMaker(
    "digsigd",
    "digsigd.tap",
    "Signing daemon for NXP i.MX boot and kernel images.",
    "digsigd",
)
