"""Mochi's Mofka client (0.2 to 0.9), on the package mofka."""

from mofka_compat import *  # noqa: F403
from mofka_compat import __all__ as _api
from mofka_compat.driver import Client, KafkaDriver, MofkaDriver, ServiceHandle

__all__ = [*_api, "Client", "KafkaDriver", "MofkaDriver", "ServiceHandle"]
