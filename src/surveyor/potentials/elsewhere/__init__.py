"""Potentials whose family lives in another environment: a child process there computes, this one asks."""
