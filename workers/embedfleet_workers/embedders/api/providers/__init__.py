"""One small file per dialect: what a provider is sent, what it answers, what its errors mean."""
