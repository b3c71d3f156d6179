import a_library_that_nobody_installed  # noqa: F401


class Broken:
    pass
