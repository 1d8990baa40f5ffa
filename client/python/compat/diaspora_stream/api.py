"""The Diaspora Stream API, on the package mofka. Only in a distribution of its own, which does not hide the original."""

from mofka_compat import *  # noqa: F403
from mofka_compat import __all__  # noqa: F401
