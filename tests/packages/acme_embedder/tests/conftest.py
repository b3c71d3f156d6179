pytest_plugins = ["embedfleet.testing"]
