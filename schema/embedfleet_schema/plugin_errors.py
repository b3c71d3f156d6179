"""The errors of embedders that other packages bring; see `errors` for how they are made."""

from __future__ import annotations

from embedfleet_schema.errors import ModelNotFound


class PluginMissing(ModelNotFound):
    """The model {model} needs the package that provides {provider!r}, and it is not installed here.
    Install it with pip on each machine that runs workers, or that searches by text.
    """


class PluginBroken(ModelNotFound):
    """The embedder {provider!r} of the package {package} cannot be used: {reason}. Upgrade or
    uninstall that package. Other models are not concerned.
    """
