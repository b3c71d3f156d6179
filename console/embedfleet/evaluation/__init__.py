"""How good the searches of a collection are: judgements, rankings, metrics, and models compared."""
