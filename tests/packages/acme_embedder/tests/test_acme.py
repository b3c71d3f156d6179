from embedfleet.testing import EmbedderSuite


class TestSmall(EmbedderSuite):
    model = "acme/small"
