"""Every error of embedfleet in one place: `except ef.errors.DatabaseUnreachable`."""

from embedfleet_schema.database_errors import *  # noqa: F403
from embedfleet_schema.errors import *  # noqa: F403
from embedfleet_schema.exchange_errors import *  # noqa: F403
from embedfleet_schema.http_errors import *  # noqa: F403
from embedfleet_schema.plugin_errors import *  # noqa: F403
from embedfleet_schema.sync_errors import *  # noqa: F403
