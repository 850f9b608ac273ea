"""Tasks × strategies × seeds → learning curves."""

from surveyor.benchmark.conduct import Outcome, benchmark
from surveyor.benchmark.loading import load_benchmark
from surveyor.benchmark.schema import BenchmarkSpec

__all__ = ["BenchmarkSpec", "Outcome", "benchmark", "load_benchmark"]
