"""The first start: a PostgreSQL data folder that is either whole or not there."""

from __future__ import annotations

import secrets
import shutil

from embedfleet.stack.files import Folder, one_line
from embedfleet.stack.processes import Account, run
from embedfleet.stack.wheels import POSTGRES_MAJOR, postgres_programs
from embedfleet_schema.private_files import sync_folder, write_private

ROLE = "embedfleet"
OWN_SETTINGS = "embedfleet.conf"
NEEDED_BYTES = 200_000_000
OPTIONS = (
    "--pgdata=data",
    f"--username={ROLE}",
    "--pwfile=password",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


def initialise(folder: Folder, account: Account) -> None:
    """Create the data folder aside and move it into place in one step.

    Raises:
        StackError: the disk is too full, or initdb fails.
    """
    _check_space(folder)
    aside = folder.root / "postgres.new"
    if aside.exists():
        shutil.rmtree(aside)  # a first start that was interrupted
    aside.mkdir(mode=0o700)
    write_private(aside / "password", secrets.token_urlsafe(24) + "\n")
    account.take(aside)
    done = run([postgres_programs() / "initdb", *OPTIONS], account, aside)
    if done.returncode != 0:
        raise folder.error("create the database", one_line(done.stderr) or "initdb was killed")
    with (aside / "data" / "postgresql.conf").open("a") as file:
        file.write(f"\ninclude_if_exists = '{OWN_SETTINGS}'\n")
    aside.rename(folder.postgres)
    sync_folder(folder.root)


def check_version(folder: Folder) -> None:
    """Refuse data that this PostgreSQL cannot read.

    Raises:
        StackError: the folder holds another version's data, or none.
    """
    version_file = folder.cluster / "PG_VERSION"
    if not version_file.exists():
        raise folder.error(
            "use its database", f"{version_file} is missing; move the folder away and start again"
        )
    if (found := version_file.read_text().strip()) != str(POSTGRES_MAJOR):
        raise folder.error(
            "use its database",
            f"PostgreSQL {found} wrote it, this program brings {POSTGRES_MAJOR}; dump it with the "
            f"old version, move {folder.postgres} away, start again and restore the dump",
        )


def _check_space(folder: Folder) -> None:
    free = shutil.disk_usage(folder.root).free
    if free < NEEDED_BYTES:
        raise folder.error(
            "create the database",
            f"its disk has {free // 10**6} MB left and {NEEDED_BYTES // 10**6} MB are needed",
        )
