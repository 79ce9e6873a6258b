"""Judging a model from its predictions table alone: metrics, intervals, reports. No torch."""
