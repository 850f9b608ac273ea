"""The laboratory beside the instrument: benchmarks and pretraining. Nothing outside imports it."""
