"""Fields of the metadata as columns of the view of a collection."""

from __future__ import annotations

from typing import get_args

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet.maintenance import Maintenance
from embedfleet_schema.store import metadata_columns, model_changes
from embedfleet_schema.store.metadata_columns import ColumnType, MetadataColumn


@translate_errors
class Columns(Maintenance):
    """The part of `Collection` about the columns of its view."""

    def columns(self) -> list[MetadataColumn]:
        """The fields of the metadata that the view shows as columns, in its order."""
        self._check_there()
        return metadata_columns.listed(self._connections.db, self.info)

    def add_column(self, field: str, type: ColumnType) -> MetadataColumn:  # noqa: A002
        """Show a field of the metadata as a column of the view, and build the index that serves
        ranges over it. Nothing happens if it is there with that type.

        The column is computed as it is read: no row changes. A value of another type is NULL there:
        a text such as "2021", as cells of CSV are, is no int.

        Args:
            field: a name in the metadata, or a path such as $.author.year: the column is called
                by its last key.
            type: int, float, text, bool, date or timestamp. A date or time is a text in ISO 8601.

        Raises:
            BadFilter: it is no name, and no path.
            ColumnRefused: the view has another column of that name, or cannot have one.
            InModelChange: it gets another model.
        """
        arguments.text("add_column", "field", field)
        arguments.choice("add_column", "type", type, get_args(ColumnType))
        self._check_outside_change()
        return metadata_columns.add(self._connections.db, self.info, field, type)

    def remove_column(self, name: str) -> bool:
        """Take a column off the view, and drop its index; returns whether there was one. Only the
        owner of the tables can do this.

        Raises:
            ViewsInTheWay: your own views read that of the collection.
            InModelChange: it gets another model.
        """
        arguments.text("remove_column", "name", name)
        self._check_outside_change()
        return metadata_columns.remove(self._connections.db, self.info, name)

    def of_another_type(self) -> dict[str, int]:
        """By the names of the columns, how many chunks have a value that is NULL there, because it
        has another type. All chunks are read for it.
        """
        self._check_there()
        return metadata_columns.of_another_type(self._connections.db, self.info)

    def _check_outside_change(self) -> None:
        self._check_there()
        reason = "its columns stay until that has ended"
        model_changes.check_outside(self._connections.db, self.info, reason)
